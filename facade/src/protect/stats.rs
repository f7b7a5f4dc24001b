//! What protection counts, one set per worker, added up when somebody asks.
//!
//! Invariant: a worker's counters are written by that worker alone, so counting needs no locked instruction.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::protect::jwt::Fault;
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
    unauthorized: [AtomicU64; Fault::WORDS.len()],
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
