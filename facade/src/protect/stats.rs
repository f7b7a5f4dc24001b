//! What protection counts, one set per worker, added up when somebody asks.
//!
//! Invariant: a worker's counters are written by that worker alone, so counting needs no locked instruction.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::protect::policy::Protection;
use crate::settings::Priority;

/// Why a request was refused for load, as metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShedReason {
    InFlight,
    Lag,
    Concurrency,
}

const SHED_REASONS: [&str; 3] = ["in_flight", "lag", "concurrency"];
const PRIORITIES: [&str; 3] = ["critical", "normal", "low"];

/// What one worker counts.
#[derive(Debug, Default)]
pub(crate) struct ProtectStats {
    routes: Vec<RouteStats>,
    shed: [[AtomicU64; SHED_REASONS.len()]; PRIORITIES.len()],
}

#[derive(Debug, Default)]
struct RouteStats {
    rate_limited: AtomicU64,
}

impl ProtectStats {
    pub(crate) fn new(protection: &Protection) -> Self {
        Self { routes: protection.policies().map(|_| RouteStats::default()).collect(), ..Self::default() }
    }

    pub(crate) fn rate_limited(&self, route: Option<usize>) {
        if let Some(stats) = self.route(route) {
            add(&stats.rate_limited);
        }
    }

    pub(crate) fn shed(&self, priority: Priority, reason: ShedReason) {
        let of_priority = self.shed.get(priority as usize);
        if let Some(counter) = of_priority.and_then(|reasons| reasons.get(reason as usize)) {
            add(counter);
        }
    }

    /// The last stands for what no route claims.
    fn route(&self, route: Option<usize>) -> Option<&RouteStats> {
        let last = self.routes.len().saturating_sub(1);
        self.routes.get(route.unwrap_or(last))
    }
}

/// Adds to a counter that only this thread writes.
fn add(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

/// Requests that one route refused for coming too often, over all workers.
pub(crate) fn rate_limited(workers: &[&ProtectStats], place: usize) -> u64 {
    let of_route = workers.iter().filter_map(|worker| worker.routes.get(place));
    of_route.map(|stats| stats.rate_limited.load(Relaxed)).sum()
}

/// The sum over all workers, in Prometheus' text format.
pub(crate) fn render(out: &mut String, protection: &Protection, workers: &[&ProtectStats]) {
    head(out, "rate_limited_total", "Requests refused with 429.");
    for (place, policy) in protection.policies().enumerate() {
        let count = rate_limited(workers, place);
        line(out, "rate_limited_total", &format!("route=\"{}\"", escaped(&policy.name)), count);
    }
    head(out, "shed_total", "Requests refused for load with 503.");
    for (priority, word) in PRIORITIES.iter().enumerate() {
        for (reason, why) in SHED_REASONS.iter().enumerate() {
            let count = |worker: &&ProtectStats| {
                worker
                    .shed
                    .get(priority)
                    .and_then(|reasons| reasons.get(reason))
                    .map_or(0, |counter| counter.load(Relaxed))
            };
            let labels = format!("priority=\"{word}\",reason=\"{why}\"");
            line(out, "shed_total", &labels, workers.iter().map(count).sum());
        }
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn head(out: &mut String, name: &str, help: &str) {
    // Writing into a String cannot fail.
    let _ = write!(out, "# HELP banyan_facade_{name} {help}\n# TYPE banyan_facade_{name} counter\n");
}

fn line(out: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(out, "banyan_facade_{name}{{{labels}}} {value}");
}
