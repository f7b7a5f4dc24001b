//! Counters of the data plane, one set per worker, added up when somebody asks.
//!
//! Invariant: a worker's counters are written by that worker alone, so counting needs no locked instruction.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use control::Side;

use crate::plan::{ContextId, Plan};
use crate::protect::stats::ProtectStats;

/// Upper bounds of the latency buckets, in microseconds.
const BOUNDS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000, 30_000_000,
];
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "aborted"];

/// Adds to a counter that only this thread writes.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

/// What one worker counts.
#[derive(Debug)]
pub(crate) struct WorkerStats {
    /// Two per context, and two for requests of no context.
    sides: Vec<SideStats>,
    contexts: Vec<ContextStats>,
    begun: AtomicU64,
    ended: AtomicU64,
    connections: AtomicU64,
    pub(crate) protect: ProtectStats,
}

#[derive(Debug, Default)]
struct SideStats {
    classes: [AtomicU64; CLASSES.len()],
    buckets: [AtomicU64; BOUNDS_US.len()],
    sum_us: AtomicU64,
}

#[derive(Debug, Default)]
struct ContextStats {
    fallbacks: AtomicU64,
    held: AtomicU64,
    held_us: AtomicU64,
}

/// How an exchange ended, as counters see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) context: Option<ContextId>,
    pub(crate) side: Side,
    /// None: the client went away before there was an answer.
    pub(crate) status: Option<u16>,
    pub(crate) took: Duration,
}

impl WorkerStats {
    pub(crate) fn new(plan: &Plan) -> Arc<Self> {
        let contexts = plan.contexts.len();
        Arc::new(Self {
            sides: (0..2 * (contexts + 1)).map(|_| SideStats::default()).collect(),
            contexts: (0..contexts).map(|_| ContextStats::default()).collect(),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            protect: ProtectStats::new(&plan.protection),
        })
    }

    pub(crate) fn connected(&self) {
        add(&self.connections, 1);
    }

    pub(crate) fn begin(&self) {
        add(&self.begun, 1);
    }

    /// Requests of this worker that have begun and not ended.
    pub(crate) fn in_flight(&self) -> u64 {
        self.begun.load(Relaxed).saturating_sub(self.ended.load(Relaxed))
    }

    pub(crate) fn end(&self, outcome: &Outcome) {
        add(&self.ended, 1);
        let Some(side) = self.sides.get(place(outcome.context, outcome.side)) else { return };
        let class =
            outcome.status.map_or(CLASSES.len() - 1, |status| usize::from(status / 100).saturating_sub(1));
        if let Some(counter) = side.classes.get(class) {
            add(counter, 1);
        }
        let us = u64::try_from(outcome.took.as_micros()).unwrap_or(u64::MAX);
        add(&side.sum_us, us);
        let bucket = BOUNDS_US.iter().position(|bound| us <= *bound);
        if let Some(counter) = bucket.and_then(|bucket| side.buckets.get(bucket)) {
            add(counter, 1);
        }
    }

    pub(crate) fn fell_back(&self, context: ContextId) {
        if let Some(stats) = self.contexts.get(context.0) {
            add(&stats.fallbacks, 1);
        }
    }

    pub(crate) fn held(&self, context: ContextId, waited: Duration) {
        if let Some(stats) = self.contexts.get(context.0) {
            add(&stats.held, 1);
            add(&stats.held_us, u64::try_from(waited.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

fn place(context: Option<ContextId>, side: Side) -> usize {
    let context = context.map_or(0, |context| context.0 + 1);
    2 * context + usize::from(side == Side::Service)
}

/// The sum over all workers, in Prometheus' text format.
pub(crate) fn render(plan: &Plan, workers: &[Arc<WorkerStats>], flags: &crate::flags::Flags) -> String {
    let mut out = String::new();
    let total = |read: &dyn Fn(&WorkerStats) -> u64| workers.iter().map(|worker| read(worker)).sum::<u64>();
    let names: Vec<&str> = std::iter::once("").chain(plan.context_names()).collect();
    let sides = || {
        let contexts = names.iter().enumerate();
        contexts.flat_map(|(index, name)| {
            [Side::Monolith, Side::Service]
                .into_iter()
                .enumerate()
                .map(move |(side, word)| (2 * index + side, *name, word))
        })
    };
    head(&mut out, "requests_total", "counter", "Requests answered, by the side that answered.");
    for (place, context, side) in sides() {
        for (class, word) in CLASSES.iter().enumerate() {
            let count = total(&|worker| side_counter(worker, place, |side| side.classes.get(class)));
            if count > 0 {
                line(
                    &mut out,
                    "requests_total",
                    &format!("context=\"{context}\",side=\"{side}\",status_class=\"{word}\""),
                    count,
                );
            }
        }
    }
    head(
        &mut out,
        "request_duration_seconds",
        "histogram",
        "From the head of a request to the end of its answer.",
    );
    for (place, context, side) in sides() {
        histogram(&mut out, workers, place, &format!("context=\"{context}\",side=\"{side}\""));
    }
    per_context(&mut out, plan, workers, flags);
    head(&mut out, "requests_in_flight", "gauge", "Requests that have begun and not ended.");
    let begun = total(&|worker| worker.begun.load(Relaxed));
    line(
        &mut out,
        "requests_in_flight",
        "",
        begun.saturating_sub(total(&|worker| worker.ended.load(Relaxed))),
    );
    head(&mut out, "connections_total", "counter", "Connections accepted from clients.");
    line(&mut out, "connections_total", "", total(&|worker| worker.connections.load(Relaxed)));
    let protect: Vec<_> = workers.iter().map(|worker| &worker.protect).collect();
    crate::protect::stats::render(&mut out, &plan.protection, &protect);
    out
}

fn side_counter(worker: &WorkerStats, place: usize, pick: impl Fn(&SideStats) -> Option<&AtomicU64>) -> u64 {
    worker.sides.get(place).and_then(pick).map_or(0, |counter| counter.load(Relaxed))
}

fn histogram(out: &mut String, workers: &[Arc<WorkerStats>], place: usize, labels: &str) {
    let sum = |pick: &dyn Fn(&SideStats) -> Option<&AtomicU64>| {
        workers.iter().map(|worker| side_counter(worker, place, pick)).sum::<u64>()
    };
    let count: u64 = (0..CLASSES.len()).map(|class| sum(&|side| side.classes.get(class))).sum();
    if count == 0 {
        return;
    }
    let mut below = 0;
    for (index, bound) in BOUNDS_US.iter().enumerate() {
        below += sum(&|side| side.buckets.get(index));
        let le = seconds(*bound);
        line(out, "request_duration_seconds_bucket", &format!("{labels},le=\"{le}\""), below.min(count));
    }
    line(out, "request_duration_seconds_bucket", &format!("{labels},le=\"+Inf\""), count);
    line(out, "request_duration_seconds_sum", labels, seconds(sum(&|side| Some(&side.sum_us))));
    line(out, "request_duration_seconds_count", labels, count);
}

fn per_context(out: &mut String, plan: &Plan, workers: &[Arc<WorkerStats>], flags: &crate::flags::Flags) {
    type Pick = fn(&ContextStats) -> &AtomicU64;
    let counters: [(&str, &str, Pick); 2] = [
        ("fallbacks_total", "Canary reads that the monolith answered for a failing service.", |stats| {
            &stats.fallbacks
        }),
        ("held_writes_total", "Writes that waited while ownership moved.", |stats| &stats.held),
    ];
    let sum = |index: usize, pick: Pick| -> u64 {
        workers
            .iter()
            .filter_map(|worker| worker.contexts.get(index))
            .map(|stats| pick(stats).load(Relaxed))
            .sum()
    };
    for (name, help, pick) in counters {
        head(out, name, "counter", help);
        for (index, context) in plan.context_names().enumerate() {
            line(out, name, &format!("context=\"{context}\""), sum(index, pick));
        }
    }
    head(out, "held_writes_seconds_total", "counter", "How long writes waited while ownership moved.");
    for (index, context) in plan.context_names().enumerate() {
        let held = seconds(sum(index, |stats| &stats.held_us));
        line(out, "held_writes_seconds_total", &format!("context=\"{context}\""), held);
    }
    head(out, "writes_in_flight", "gauge", "Writes that have passed the gate and not ended.");
    for (index, context) in plan.context_names().enumerate() {
        let count = flags.gate(ContextId(index)).map_or(0, |gate| gate.in_flight());
        line(out, "writes_in_flight", &format!("context=\"{context}\""), count);
    }
}

/// Microseconds as seconds, exactly.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing into a String cannot fail.
    let _ = write!(out, "# HELP banyan_facade_{name} {help}\n# TYPE banyan_facade_{name} {kind}\n");
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = match labels {
        "" => writeln!(out, "banyan_facade_{name} {value}"),
        _ => writeln!(out, "banyan_facade_{name}{{{labels}}} {value}"),
    };
}
