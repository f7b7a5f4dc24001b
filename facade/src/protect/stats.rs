//! What protection counts: load by worker, added up when somebody asks, and refusals by route, for all workers together.
//!
//! Invariant: a worker's counters are written by that worker alone, so counting needs no locked instruction; a route's
//! counters go on over reloads for as long as there is such a route.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::protect::jwt::Fault;
use crate::protect::policy::Protection;
use crate::protect::shedding::Lag;
use crate::settings::Priority;

/// Why a request was refused for load, as metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShedReason {
    InFlight,
    Lag,
}

const SHED_REASONS: [&str; 2] = ["in_flight", "lag"];
const PRIORITIES: [&str; 3] = ["critical", "normal", "low"];

/// What one worker counts.
#[derive(Debug, Default)]
pub(crate) struct ProtectStats {
    /// By the upstreams' places, as far as anybody asked.
    upstreams: Mutex<Vec<Arc<Concurrency>>>,
    pub(crate) lag: Lag,
    shed: [[AtomicU64; SHED_REASONS.len()]; PRIORITIES.len()],
}

/// What adaptive concurrency does with one upstream.
#[derive(Debug, Default)]
pub(crate) struct Concurrency {
    limit: AtomicU64,
    refused: AtomicU64,
}

impl Concurrency {
    pub(crate) fn show(&self, limit: f64) {
        self.limit.store(limit as u64, Relaxed);
    }

    /// The upstream had as many requests as it can take.
    pub(crate) fn refused(&self) {
        add(&self.refused);
    }
}

/// What one route refused, at all workers: refusing takes a lock or a check of a signature anyway.
#[derive(Debug, Default)]
pub(crate) struct RouteCounts {
    rate_limited: AtomicU64,
    unauthorized: [AtomicU64; Fault::WORDS.len()],
}

impl RouteCounts {
    pub(crate) fn add_limited(&self) {
        self.rate_limited.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_unauthorized(&self, fault: Fault) {
        if let Some(counter) = self.unauthorized.get(fault as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Requests refused for coming too often.
    pub(crate) fn limited(&self) -> u64 {
        self.rate_limited.load(Relaxed)
    }

    /// Requests refused for want of a valid token, by reason.
    pub(crate) fn unauthorized(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Fault::WORDS.into_iter().zip(self.unauthorized.iter().map(|count| count.load(Relaxed)))
    }
}

impl ProtectStats {
    /// What is counted of an upstream, by its place in the plan. Plans that follow may have more of them.
    pub(crate) fn upstream(&self, place: usize) -> Arc<Concurrency> {
        let mut upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        if upstreams.len() <= place {
            upstreams.resize_with(place + 1, Arc::default);
        }
        upstreams.get(place).cloned().unwrap_or_default()
    }

    pub(crate) fn shed(&self, priority: Priority, reason: ShedReason) {
        let of_priority = self.shed.get(priority as usize);
        if let Some(counter) = of_priority.and_then(|reasons| reasons.get(reason as usize)) {
            add(counter);
        }
    }
}

/// Adds to a counter that only this thread writes.
fn add(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

/// Requests refused for load, by priority and reason, over all workers.
pub(crate) fn shed(workers: &[&ProtectStats]) -> Vec<(&'static str, &'static str, u64)> {
    let mut rows = Vec::new();
    for (priority, word) in PRIORITIES.into_iter().enumerate() {
        for (reason, why) in SHED_REASONS.into_iter().enumerate() {
            let counters = workers.iter().filter_map(|worker| worker.shed.get(priority)?.get(reason));
            rows.push((word, why, counters.map(|counter| counter.load(Relaxed)).sum()));
        }
    }
    rows
}

/// An upstream's limit and the requests refused by it, over all workers.
pub(crate) fn concurrency(workers: &[&ProtectStats], upstream: usize) -> (u64, u64) {
    let of_worker = |worker: &&ProtectStats| {
        let stats = worker.upstream(upstream);
        (stats.limit.load(Relaxed), stats.refused.load(Relaxed))
    };
    workers
        .iter()
        .map(of_worker)
        .fold((0, 0), |(limits, refused), (limit, more)| (limits + limit, refused + more))
}

/// The sum over all workers, in Prometheus' text format.
pub(crate) fn render(out: &mut String, protection: &Protection, workers: &[&ProtectStats]) {
    head(out, "rate_limited_total", "counter", "Requests refused with 429.");
    for policy in protection.policies() {
        let labels = format!("route=\"{}\"", escaped(&policy.name));
        line(out, "rate_limited_total", &labels, policy.counts.limited());
    }
    head(out, "unauthorized_total", "counter", "Requests refused for want of a valid token.");
    for policy in protection.policies().filter(|policy| policy.jwt.is_some()) {
        for (reason, count) in policy.counts.unauthorized() {
            let labels = format!("route=\"{}\",reason=\"{reason}\"", escaped(&policy.name));
            line(out, "unauthorized_total", &labels, count);
        }
    }
    head(out, "shed_total", "counter", "Requests refused for load with 503.");
    for (priority, reason, count) in shed(workers) {
        line(out, "shed_total", &format!("priority=\"{priority}\",reason=\"{reason}\""), count);
    }
    per_upstream(out, protection, workers);
    let with_keys = protection.providers.iter().filter(|provider| provider.keys.load().fetched.is_some());
    head(out, "jwks_age_seconds", "gauge", "Since an issuer's keys were fetched.");
    for provider in with_keys {
        let age = provider.keys.load().fetched.map_or(0, |fetched| fetched.elapsed().as_secs());
        line(out, "jwks_age_seconds", &format!("provider=\"{}\"", escaped(&provider.name)), age);
    }
    head(out, "jwks_failures_total", "counter", "Fetches of an issuer's keys that failed.");
    for provider in &protection.providers {
        let labels = format!("provider=\"{}\"", escaped(&provider.name));
        line(out, "jwks_failures_total", &labels, provider.refresh.failures.load(Relaxed));
    }
}

fn per_upstream(out: &mut String, protection: &Protection, workers: &[&ProtectStats]) {
    let limited = || {
        let named = protection.upstreams.iter().enumerate();
        named.filter(|(_, name)| protection.adaptive.upstreams.contains(name))
    };
    head(out, "concurrency_limit", "gauge", "Requests an upstream gets at once by its latency.");
    for (place, name) in limited() {
        let labels = format!("upstream=\"{}\"", escaped(name));
        line(out, "concurrency_limit", &labels, concurrency(workers, place).0);
    }
    head(out, "concurrency_limited_total", "counter", "Requests not sent because of that limit.");
    for (place, name) in limited() {
        let labels = format!("upstream=\"{}\"", escaped(name));
        line(out, "concurrency_limited_total", &labels, concurrency(workers, place).1);
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing into a String cannot fail.
    let _ = write!(out, "# HELP banyan_facade_{name} {help}\n# TYPE banyan_facade_{name} {kind}\n");
}

fn line(out: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(out, "banyan_facade_{name}{{{labels}}} {value}");
}
