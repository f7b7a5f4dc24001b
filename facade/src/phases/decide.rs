//! Decide: which side answers. Reads go by flag and sticky key; writes pass the context's gate and go to the owner.
//!
//! Invariant: a write reads the flag only after it has passed the gate, so it never goes to an owner of the past.

use control::{Flag, Side, Weight};
use http::{Method, StatusCode, request};

use crate::answer::Refusal;
use crate::gate::{Entered, WriteGuard};
use crate::key::{self, Keyed};
use crate::phases::route::Route;
use crate::plan::{ContextId, ContextPlan, Plan, UpstreamId};
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

pub(crate) async fn decide(
    worker: &Worker,
    route: &Route<'_>,
    parts: &request::Parts,
    client: &ClientAddress,
) -> Result<Decision, Refusal> {
    let Some((context, plan)) = route.context.and_then(|id| Some((id, worker.plan.context(id)?))) else {
        return Ok(Decision {
            side: Side::Monolith,
            upstream: worker.plan.monolith,
            canary: false,
            write: None,
        });
    };
    let write = if is_read(&parts.method) { None } else { pass_gate(worker, context, plan).await? };
    let keyed = Keyed { path: &route.path, headers: &parts.headers, client: client.text.as_bytes() };
    let (side, canary) = worker.with_flag(context, |flag| match (flag, &write) {
        (None, _) => (Side::Monolith, false),
        (Some(flag), Some(_)) => (flag.side_of_write(), false),
        (Some(flag), None) => {
            let side = choose_read(flag, plan, &keyed);
            (side, side == Side::Service && flag.may_fall_back())
        }
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

/// Without a key nothing could make the answer sticky, so such a read moves last: at 100 %.
pub(crate) fn choose_read(flag: &Flag, context: &ContextPlan, keyed: &Keyed<'_>) -> Side {
    let is_same_for_all =
        flag.reads == Weight::ZERO || flag.reads == Weight::FULL || flag.writes == Side::Service;
    if is_same_for_all {
        return flag.side_of_read(&[]);
    }
    match key::find(&context.keys, keyed) {
        Some((key, _)) => flag.side_of_read(key),
        None => Side::Monolith,
    }
}

async fn pass_gate(
    worker: &Worker,
    context: ContextId,
    plan: &ContextPlan,
) -> Result<Option<WriteGuard>, Refusal> {
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
