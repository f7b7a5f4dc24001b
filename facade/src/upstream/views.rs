//! Upstreams as the admin API and the metrics show them.
//!
//! Invariant: looking changes nothing.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::upstream::instance::{Instance, Kind};

/// An upstream with its instances.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct UpstreamView {
    /// Its name in the settings.
    pub name: String,
    /// `closed` in good health, `open` while it is not asked, `half_open` while probes are let through.
    pub breaker: String,
    /// Requests refused because the breaker was open.
    pub refused_by_breaker: u64,
    /// Requests refused because too many were in flight.
    pub refused_by_bulkhead: u64,
    /// Requests refused because every instance was put aside.
    pub refused_for_health: u64,
    /// Retries left out because the budget was spent.
    pub retry_budget_exhausted: u64,
    /// Its instances.
    pub instances: Vec<InstanceView>,
}

/// One instance of an upstream.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct InstanceView {
    /// Its URL.
    pub url: String,
    /// False while it is put aside.
    pub healthy: bool,
    /// How often it was put aside since it last succeeded.
    pub ejections: u32,
    /// Milliseconds until it is asked again; 0 where it is.
    pub away_ms: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Attempts to have a request answered.
    pub requests: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Why the last one failed.
    pub last_failure: Option<String>,
}

impl InstanceView {
    fn of(instance: &Instance) -> Self {
        Self {
            url: format!("http://{}", instance.authority),
            healthy: instance.is_usable(),
            ejections: instance.ejections(),
            away_ms: instance.away_ms(),
            in_flight: instance.in_flight(),
            requests: instance.requests(),
            failures: Kind::ALL.iter().map(|kind| instance.failures(*kind)).sum(),
            last_failure: instance.last_failure(),
        }
    }
}

pub(crate) fn views(plan: &Plan) -> Vec<UpstreamView> {
    let view = |upstream: &crate::plan::Upstream| {
        let shared = &upstream.shared;
        UpstreamView {
            name: upstream.name.clone(),
            breaker: shared.breaker.state().to_owned(),
            refused_by_breaker: shared.refused_by_breaker.load(Relaxed),
            refused_by_bulkhead: shared.refused_by_bulkhead.load(Relaxed),
            refused_for_health: shared.none_healthy.load(Relaxed),
            retry_budget_exhausted: shared.budget_exhausted.load(Relaxed),
            instances: shared.instances.iter().map(|instance| InstanceView::of(instance)).collect(),
        }
    };
    plan.upstreams.iter().map(view).collect()
}

/// In Prometheus' text format.
pub(crate) fn render(plan: &Plan) -> String {
    let mut out = String::new();
    type Of = fn(&UpstreamView) -> u64;
    let per_upstream: [(&str, &str, &str, Of); 5] = [
        ("breaker_state", "gauge", "0 closed, 1 half open, 2 open.", |view| match view.breaker.as_str() {
            "closed" => 0,
            "half_open" => 1,
            _ => 2,
        }),
        ("breaker_refusals_total", "counter", "Requests refused by the open breaker.", |view| {
            view.refused_by_breaker
        }),
        ("bulkhead_refusals_total", "counter", "Requests refused by the bulkhead.", |view| {
            view.refused_by_bulkhead
        }),
        ("health_refusals_total", "counter", "Requests refused for want of a healthy instance.", |view| {
            view.refused_for_health
        }),
        ("retry_budget_exhausted_total", "counter", "Retries left out for want of budget.", |view| {
            view.retry_budget_exhausted
        }),
    ];
    let views = views(plan);
    for (name, kind, help, of) in per_upstream {
        head(&mut out, name, kind, help);
        for view in &views {
            let _ = writeln!(out, "banyan_facade_upstream_{name}{{upstream=\"{}\"}} {}", view.name, of(view));
        }
    }
    type Read = fn(&Instance) -> u64;
    let per_instance: [(&str, &str, &str, Read); 7] = [
        ("requests_total", "counter", "Attempts to have a request answered.", Instance::requests),
        ("in_flight", "gauge", "Requests under way.", Instance::in_flight),
        ("healthy", "gauge", "1 if it is asked, 0 while it is put aside.", |one| u64::from(one.is_usable())),
        ("ejections", "gauge", "How often it was put aside since it last succeeded.", |one| {
            u64::from(one.ejections())
        }),
        ("retries_total", "counter", "Requests sent to it again.", |one| {
            one.sum(|cells| cells.retries.load(Relaxed))
        }),
        ("connections_total", "counter", "Connections opened.", |one| {
            one.sum(|cells| cells.connections.load(Relaxed))
        }),
        ("idle_connections", "gauge", "Connections that wait for a request.", |one| {
            one.sum(|cells| cells.idle.load(Relaxed))
        }),
    ];
    for (name, kind, help, read) in per_instance {
        head(&mut out, name, kind, help);
        each(plan, |labels, instance| {
            let _ = writeln!(out, "banyan_facade_upstream_{name}{{{labels}}} {}", read(instance));
        });
    }
    head(&mut out, "failures_total", "counter", "Attempts that failed.");
    each(plan, |labels, instance| {
        for kind in Kind::ALL {
            let (word, count) = (kind.as_str(), instance.failures(kind));
            let _ =
                writeln!(out, "banyan_facade_upstream_failures_total{{{labels},kind=\"{word}\"}} {count}");
        }
    });
    out
}

fn each(plan: &Plan, mut write: impl FnMut(&str, &Instance)) {
    for upstream in &plan.upstreams {
        for instance in &upstream.shared.instances {
            write(&format!("upstream=\"{}\",instance=\"{}\"", upstream.name, instance.authority), instance);
        }
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing into a String cannot fail.
    let _ = write!(
        out,
        "# HELP banyan_facade_upstream_{name} {help}\n# TYPE banyan_facade_upstream_{name} {kind}\n"
    );
}
