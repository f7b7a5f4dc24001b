//! What protection counts, one set per worker, added up when somebody asks.
//!
//! Invariant: a worker's counters are written by that worker alone, so counting needs no locked instruction.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
    routes: Vec<RouteStats>,
    upstreams: Vec<UpstreamStats>,
    pub(crate) lag: Lag,
    shed: [[AtomicU64; SHED_REASONS.len()]; PRIORITIES.len()],
}

/// What adaptive concurrency does with one upstream.
#[derive(Debug, Default)]
struct UpstreamStats {
    limit: Arc<AtomicU64>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct RouteStats {
    rate_limited: AtomicU64,
    unauthorized: [AtomicU64; Fault::WORDS.len()],
}

impl ProtectStats {
    pub(crate) fn new(protection: &Protection) -> Self {
        Self {
            routes: protection.policies().map(|_| RouteStats::default()).collect(),
            upstreams: protection.upstreams.iter().map(|_| UpstreamStats::default()).collect(),
            ..Self::default()
        }
    }

    /// Where the adaptive limits are shown, by upstream.
    pub(crate) fn limits(&self) -> Vec<Arc<AtomicU64>> {
        self.upstreams.iter().map(|upstream| Arc::clone(&upstream.limit)).collect()
    }

    /// An upstream had as many requests as it can take.
    pub(crate) fn concurrency_limited(&self, upstream: usize) {
        if let Some(stats) = self.upstreams.get(upstream) {
            add(&stats.refused);
        }
    }

    pub(crate) fn rate_limited(&self, route: Option<usize>) {
        if let Some(stats) = self.route(route) {
            add(&stats.rate_limited);
        }
    }

    pub(crate) fn unauthorized(&self, route: Option<usize>, fault: Fault) {
        if let Some(counter) = self.route(route).and_then(|stats| stats.unauthorized.get(fault as usize)) {
            add(counter);
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

/// Requests that one route refused for want of a valid token, by reason, over all workers.
pub(crate) fn unauthorized(workers: &[&ProtectStats], place: usize) -> Vec<(&'static str, u64)> {
    let of_reason = |(reason, word): (usize, &&'static str)| {
        let of_route = workers.iter().filter_map(|worker| worker.routes.get(place));
        (
            *word,
            of_route
                .filter_map(|stats| stats.unauthorized.get(reason))
                .map(|count| count.load(Relaxed))
                .sum(),
        )
    };
    Fault::WORDS.iter().enumerate().map(of_reason).collect()
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
    let of_upstream = || workers.iter().filter_map(|worker| worker.upstreams.get(upstream));
    let limit = of_upstream().map(|stats| stats.limit.load(Relaxed)).sum();
    (limit, of_upstream().map(|stats| stats.refused.load(Relaxed)).sum())
}

/// The sum over all workers, in Prometheus' text format.
pub(crate) fn render(out: &mut String, protection: &Protection, workers: &[&ProtectStats]) {
    head(out, "rate_limited_total", "counter", "Requests refused with 429.");
    for (place, policy) in protection.policies().enumerate() {
        let count = rate_limited(workers, place);
        line(out, "rate_limited_total", &format!("route=\"{}\"", escaped(&policy.name)), count);
    }
    head(out, "unauthorized_total", "counter", "Requests refused for want of a valid token.");
    for (place, policy) in protection.policies().enumerate().filter(|(_, policy)| policy.jwt.is_some()) {
        for (reason, count) in unauthorized(workers, place) {
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
