//! Everything that is counted, in Prometheus' text format.
//!
//! Invariant: every context is there from the start with zeros, because a rate needs a series that has begun.

use control::{Flag, Side, Stage};

use super::cells::{BOUNDS_US, CLASSES, KINDS};
use super::text::{head, line, seconds};
use super::totals::{ContextTotals, SideTotals, Totals};
use crate::flags::Flags;
use crate::plan::{ContextId, Plan};

/// Where the figures come from.
pub(crate) struct Source<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) flags: &'a Flags,
    pub(crate) totals: Totals,
}

/// The labels of a side, and its sums.
type Labelled<'a> = (String, &'a SideTotals);

pub(crate) fn render(source: &Source<'_>) -> String {
    let mut out = String::with_capacity(16 * 1024);
    let sides = sides(source.plan, &source.totals);
    requests(&mut out, &sides);
    durations(&mut out, &sides);
    in_flight(&mut out, &sides, &source.totals);
    bytes(&mut out, &sides);
    per_context(&mut out, source);
    flags(&mut out, source);
    process(&mut out, source);
    out
}

/// Requests of no context come with an empty name; they have one side only.
fn sides<'a>(plan: &Plan, totals: &'a Totals) -> Vec<Labelled<'a>> {
    let names = std::iter::once("").chain(plan.context_names());
    let named = names.flat_map(|name| [(name, Side::Monolith), (name, Side::Service)]);
    named
        .zip(&totals.sides)
        .filter(|((name, side), _)| !(name.is_empty() && *side == Side::Service))
        .map(|((name, side), totals)| (format!("context=\"{name}\",side=\"{side}\""), totals))
        .collect()
}

fn requests(out: &mut String, sides: &[Labelled<'_>]) {
    head(out, "requests_total", "counter", "Requests that ended, by the side that answered and by status.");
    for (labels, side) in sides {
        for (kind, classes) in KINDS.iter().zip(&side.requests) {
            for (class, count) in CLASSES.iter().zip(classes) {
                let labels = format!("{labels},kind=\"{kind}\",status_class=\"{class}\"");
                line(out, "requests_total", &labels, count);
            }
        }
    }
}

fn durations(out: &mut String, sides: &[Labelled<'_>]) {
    let help = "From the head of a request to the end of its answer.";
    head(out, "request_duration_seconds", "histogram", help);
    for (labels, side) in sides {
        let (mut below, count) = (0, side.count());
        for (held, bound) in side.buckets.iter().zip(BOUNDS_US) {
            below += held;
            let labels = format!("{labels},le=\"{}\"", seconds(bound));
            line(out, "request_duration_seconds_bucket", &labels, below.min(count));
        }
        line(out, "request_duration_seconds_bucket", &format!("{labels},le=\"+Inf\""), count);
        line(out, "request_duration_seconds_sum", labels, seconds(side.sum_us));
        line(out, "request_duration_seconds_count", labels, count);
    }
}

fn in_flight(out: &mut String, sides: &[Labelled<'_>], totals: &Totals) {
    let help = "Requests that have begun and not ended; without a side while that is not decided.";
    head(out, "requests_in_flight", "gauge", help);
    line(out, "requests_in_flight", "context=\"\",side=\"\"", totals.undecided.open());
    for (labels, side) in sides {
        line(out, "requests_in_flight", labels, side.in_flight());
    }
}

fn bytes(out: &mut String, sides: &[Labelled<'_>]) {
    head(out, "received_bytes_total", "counter", "Bytes of request bodies read from clients.");
    for (labels, side) in sides {
        line(out, "received_bytes_total", labels, side.received);
    }
    head(out, "sent_bytes_total", "counter", "Bytes of answer bodies handed over for clients.");
    for (labels, side) in sides {
        line(out, "sent_bytes_total", labels, side.sent);
    }
}

fn per_context(out: &mut String, source: &Source<'_>) {
    let contexts = || {
        let names = source.plan.context_names().map(|name| format!("context=\"{name}\""));
        names.zip(&source.totals.contexts)
    };
    let mut counter = |name: &str, help: &str, value: &dyn Fn(&ContextTotals) -> String| {
        head(out, name, "counter", help);
        contexts().for_each(|(labels, totals)| line(out, name, &labels, value(totals)));
    };
    let help = "Canary reads that the monolith answered for a failing service.";
    counter("fallbacks_total", help, &|totals| totals.fallbacks.to_string());
    let help = "Writes that waited while ownership moved.";
    counter("held_writes_total", help, &|totals| totals.held.to_string());
    let help = "How long writes waited while ownership moved.";
    counter("held_writes_seconds_total", help, &|totals| seconds(totals.held_us));
    head(out, "writes_in_flight", "gauge", "Writes that have passed the gate and not ended.");
    for (index, (labels, _)) in contexts().enumerate() {
        let count = source.flags.gate(ContextId(index)).map_or(0, |gate| gate.in_flight());
        line(out, "writes_in_flight", &labels, count);
    }
}

fn flags(out: &mut String, source: &Source<'_>) {
    let table = source.flags.table().load_full();
    let flags: Vec<&Flag> =
        (0..source.plan.contexts.len()).filter_map(|index| table.get(ContextId(index))).collect();
    let mut gauge = |name: &str, help: &str, value: &dyn Fn(&Flag) -> String| {
        head(out, name, "gauge", help);
        for flag in &flags {
            line(out, name, &format!("context=\"{}\"", flag.context), value(flag));
        }
    };
    gauge("flag_token", "Fencing token of the flag that is served.", &|flag| flag.token.to_string());
    let help = "Share of keys whose reads go to the service, 0 to 1.";
    gauge("flag_reads_ratio", help, &|flag| (f64::from(flag.reads.basis_points()) / 10_000.0).to_string());
    let held = |flag: &Flag| u8::from(flag.hold.is_some()).to_string();
    gauge("flag_hold", "1 while ownership of the context moves and its writes are held.", &held);
    head(out, "flag_stage", "gauge", "1 for the stage that the context is in.");
    for flag in &flags {
        for stage in [Stage::Monolith, Stage::Syncing, Stage::Canary, Stage::Extracted] {
            let labels = format!("context=\"{}\",stage=\"{stage}\"", flag.context);
            line(out, "flag_stage", &labels, u8::from(flag.stage() == stage));
        }
    }
}

fn process(out: &mut String, source: &Source<'_>) {
    let totals = &source.totals;
    head(out, "connections_total", "counter", "Connections accepted from clients.");
    line(out, "connections_total", "", totals.connections.begun);
    head(out, "connections_open", "gauge", "Connections of clients that are open.");
    line(out, "connections_open", "", totals.connections.open());
    head(out, "access_log_dropped_total", "counter", "Lines of the access log that found its queue full.");
    line(out, "access_log_dropped_total", "", totals.unlogged);
    source.flags.render_vitals(out);
    head(out, "build_info", "gauge", "Always 1; its label is the version.");
    line(out, "build_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1);
}
