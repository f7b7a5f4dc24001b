//! Decide: which side answers. Reads go by flag and sticky key; writes pass the context's gate and go to the owner.
//!
//! Invariants: a write reads the flag only after it has passed the gate, so it never goes to an owner of the past;
//! neither a pin nor an override sends a write away from the owner, or a read to a monolith that owns nothing.

use control::{Flag, Side, Weight, bucket};
use http::{Method, StatusCode, request};

use crate::answer::Refusal;
use crate::gate::{Entered, WriteGuard};
use crate::key::{self, Keyed};
use crate::overrides::{Outcome, Wish};
use crate::phases::route::Route;
use crate::plan::{ContextId, ContextPlan, Plan, UpstreamId};
use crate::protect::claims::Claims;
use crate::protect::forwarded::ClientAddress;
use crate::worker::Worker;

/// Which side answers, and what comes with it.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) side: Side,
    pub(crate) upstream: UpstreamId,
    /// A read that the service answers although the monolith owns the context.
    pub(crate) canary: bool,
    /// Of a write: it counts as under way until this is dropped.
    pub(crate) write: Option<WriteGuard>,
}

/// A side, and why it is that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) side: Side,
    pub(crate) why: Why,
}

/// Why a side was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// A write: its owner takes it.
    Owner,
    /// The service owns the context, so it answers all reads.
    ServiceOwns,
    /// A signed override says so.
    Wished,
    /// Reads are at 0 %.
    NoReads,
    /// The service's data is late.
    Late,
    /// Reads are at 100 %.
    AllReads,
    /// An operator pinned the key.
    Pinned,
    /// Without a key nothing could make the answer sticky, so such a read moves last: at 100 %.
    NoKey,
    /// The key's bucket is within the weight, or not.
    Bucket(u16),
}

pub(crate) async fn decide(
    worker: &Worker,
    route: &Route<'_>,
    parts: &request::Parts,
    client: &ClientAddress,
    claims: Option<&Claims>,
) -> Result<Decision, Refusal> {
    let Some((context, plan)) = route.context.and_then(|id| Some((id, worker.plan.context(id)?))) else {
        let upstream = route.upstream.unwrap_or(worker.plan.monolith);
        return Ok(Decision { side: Side::Monolith, upstream, canary: false, write: None });
    };
    let is_read = is_read(&parts.method);
    let write = if is_read { None } else { pass_gate(worker, context, plan).await? };
    let keyed = Keyed { path: &route.path, headers: &parts.headers, client: client.text.as_bytes(), claims };
    let wish = worker.plan.wish(plan, &parts.headers);
    let (side, canary) = worker.with_flag(context, |flag| {
        let Some(flag) = flag else { return (Side::Monolith, false) };
        let Choice { side, .. } =
            if is_read { choose_read(flag, plan, &keyed, wish) } else { choose_write(flag) };
        if let Some(outcome) = outcome(wish, side) {
            worker.stats.overrides.count(outcome);
        }
        (side, is_read && side == Side::Service && flag.may_fall_back())
    });
    Ok(Decision { side, upstream: upstream_of(&worker.plan, plan, side), canary, write })
}

/// Safe methods by RFC 9110 §9.2.1.
pub(crate) fn is_read(method: &Method) -> bool {
    method.is_safe()
}

pub(crate) fn upstream_of(plan: &Plan, context: &ContextPlan, side: Side) -> UpstreamId {
    match side {
        Side::Monolith => plan.monolith,
        Side::Service => context.service,
    }
}

/// Which side answers a read.
pub(crate) fn choose_read(flag: &Flag, context: &ContextPlan, keyed: &Keyed<'_>, wish: Wish) -> Choice {
    let choice = |side, why| Choice { side, why };
    if flag.writes == Side::Service {
        return choice(Side::Service, Why::ServiceOwns);
    }
    if let Wish::Side(side) = wish {
        return choice(side, Why::Wished);
    }
    // Before pins: at 0 % everybody is at home, and late data is read by nobody who did not ask for it.
    if flag.reads == Weight::ZERO {
        return choice(Side::Monolith, Why::NoReads);
    }
    if flag.late {
        return choice(Side::Monolith, Why::Late);
    }
    let is_for_all = flag.reads == Weight::FULL;
    if is_for_all && flag.pins.is_empty() {
        return choice(Side::Service, Why::AllReads);
    }
    let key = key::find(&context.keys, keyed).map(|(key, _)| key);
    if let Some(side) = key.as_deref().and_then(|key| flag.pins.get(key)) {
        return choice(side, Why::Pinned);
    }
    match key {
        _ if is_for_all => choice(Side::Service, Why::AllReads),
        None => choice(Side::Monolith, Why::NoKey),
        Some(key) => {
            let bucket = bucket(&flag.context, &key);
            let side = if flag.reads.holds(bucket) { Side::Service } else { Side::Monolith };
            choice(side, Why::Bucket(bucket))
        }
    }
}

/// Which side takes a write.
pub(crate) fn choose_write(flag: &Flag) -> Choice {
    Choice { side: flag.side_of_write(), why: Why::Owner }
}

/// What came of a wish, now that a side is chosen.
pub(crate) fn outcome(wish: Wish, side: Side) -> Option<Outcome> {
    match wish {
        Wish::Nothing => None,
        Wish::Side(wished) if wished == side => Some(Outcome::Used),
        Wish::Side(_) => Some(Outcome::Refused),
        Wish::Invalid => Some(Outcome::Invalid),
        Wish::Expired => Some(Outcome::Expired),
    }
}

async fn pass_gate(
    worker: &Worker,
    context: ContextId,
    plan: &ContextPlan,
) -> Result<Option<WriteGuard>, Refusal> {
    if !worker.is_sure(context) {
        let detail = format!("who owns {} is not known at the moment, so it takes no writes", plan.name);
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(5));
    }
    let Some(gate) = worker.flags.gate(context) else { return Ok(None) };
    match gate.enter(worker.flags.longest_wait()).await {
        Ok(Entered { guard, waited }) => {
            if let Some(waited) = waited {
                worker.stats.held(context, waited);
            }
            Ok(Some(guard))
        }
        Err(_) => {
            let detail = format!("{} is being moved and takes no writes at the moment", plan.name);
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1))
        }
    }
}

#[cfg(test)]
mod tests;
