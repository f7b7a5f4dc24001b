//! Upstreams as the admin API and the metrics show them.
//!
//! Invariant: looking changes nothing.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use http::uri::Authority;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{Plan, Upstream};
use crate::upstream::instance::{Instance, Kind};
use crate::upstream::members::literal;
use crate::upstream::names::Names;

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
    /// Names that its instances are resolved from.
    pub names: Vec<NameView>,
    /// Its instances, and those that are gone while requests are in flight.
    pub instances: Vec<InstanceView>,
}

/// A name of an upstream, and what it resolves to.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct NameView {
    /// The name with its port.
    pub name: String,
    /// Addresses that it was last resolved to.
    pub addresses: Vec<String>,
    /// When that was; null if never.
    pub resolved_at: Option<String>,
    /// Attempts that failed.
    pub failures: u64,
    /// Why the last attempt failed; null if it succeeded.
    pub last_error: Option<String>,
}

impl NameView {
    fn of(name: &Authority, names: &Names) -> Self {
        let known = names.known(name);
        Self {
            name: name.to_string(),
            addresses: known.addresses.iter().map(ToString::to_string).collect(),
            resolved_at: known.resolved_at.map(|instant| format!("{instant:.3}")),
            failures: known.failures,
            last_error: known.error,
        }
    }
}

/// One instance of an upstream.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct InstanceView {
    /// Its URL.
    pub url: String,
    /// False while it is put aside.
    pub healthy: bool,
    /// It is an instance no longer: it gets no new requests.
    pub draining: bool,
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
            url: format!("http://{}", instance.address),
            healthy: instance.is_usable(),
            draining: false,
            ejections: instance.ejections(),
            away_ms: instance.away_ms(),
            in_flight: instance.in_flight(),
            requests: instance.attempts(),
            failures: Kind::ALL.iter().map(|kind| instance.failures(*kind)).sum(),
            last_failure: instance.last_failure(),
        }
    }
}

pub(crate) fn views(plan: &Plan, names: &Names) -> Vec<UpstreamView> {
    let view = |upstream: &Upstream| {
        let (shared, members) = (&upstream.shared, upstream.shared.members());
        let present = members.instances().map(|instance| InstanceView::of(instance));
        let leaving = members.leaving().map(|instance| InstanceView {
            draining: true,
            healthy: false,
            ..InstanceView::of(instance)
        });
        let to_resolve = upstream.authorities.iter().filter(|authority| literal(authority).is_none());
        UpstreamView {
            name: upstream.name.clone(),
            breaker: shared.breaker.state().to_owned(),
            refused_by_breaker: shared.refused_by_breaker.load(Relaxed),
            refused_by_bulkhead: shared.refused_by_bulkhead.load(Relaxed),
            refused_for_health: shared.none_healthy.load(Relaxed),
            retry_budget_exhausted: shared.budget_exhausted.load(Relaxed),
            names: to_resolve.map(|name| NameView::of(name, names)).collect(),
            instances: present.chain(leaving).collect(),
        }
    };
    let is_there =
        |upstream: &&Upstream| !upstream.is_retired || upstream.shared.members().leaving().count() > 0;
    plan.upstreams.iter().filter(is_there).map(view).collect()
}

/// In Prometheus' text format.
pub(crate) fn render(plan: &Plan, names: &Names) -> String {
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
    let views = views(plan, names);
    for (name, kind, help, of) in per_upstream {
        head(&mut out, name, kind, help);
        for view in &views {
            let _ = writeln!(out, "banyan_facade_upstream_{name}{{upstream=\"{}\"}} {}", view.name, of(view));
        }
    }
    type OfName = fn(&NameView) -> u64;
    let per_name: [(&str, &str, &str, OfName); 3] = [
        ("name_resolved", "gauge", "1 if the last attempt to resolve it succeeded.", |name| {
            u64::from(name.last_error.is_none())
        }),
        ("name_addresses", "gauge", "Addresses that the name was last resolved to.", |name| {
            u64::try_from(name.addresses.len()).unwrap_or(u64::MAX)
        }),
        ("name_failures_total", "counter", "Attempts to resolve the name that failed.", |name| name.failures),
    ];
    for (name, kind, help, of) in per_name {
        head(&mut out, name, kind, help);
        for (upstream, view) in views.iter().flat_map(|view| view.names.iter().map(move |name| (view, name)))
        {
            let labels = format!("upstream=\"{}\",name=\"{}\"", upstream.name, view.name);
            let _ = writeln!(out, "banyan_facade_upstream_{name}{{{labels}}} {}", of(view));
        }
    }
    type Read = fn(&Instance) -> u64;
    let per_instance: [(&str, &str, &str, Read); 7] = [
        ("requests_total", "counter", "Attempts to have a request answered.", Instance::attempts),
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
        for instance in upstream.shared.members().instances() {
            write(&format!("upstream=\"{}\",instance=\"{}\"", upstream.name, instance.address), instance);
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
