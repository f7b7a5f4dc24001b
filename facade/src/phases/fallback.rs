//! Fall back: a canary read that the service fails is answered by the monolith, once.
//!
//! Invariant: the client sees the whole of one answer. A small answer is held until it is complete, because one that
//! has begun can no longer be taken back.

use std::future::poll_fn;

use control::Side;
use http::header::CONTENT_TYPE;
use tokio::time::{Instant, timeout_at};

use crate::answer::{Answer, Refusal};
use crate::body::{BoxError, UpstreamBody};
use crate::outgoing::Outgoing;
use crate::phases::forward::{Failure, forward};
use crate::phases::record::Ticket;
use crate::plan::{ContextId, FallbackPlan};
use crate::strict::Door;
use crate::worker::Worker;

/// What the service said to a canary read, or what the monolith says instead.
pub(crate) async fn settle(
    worker: &Worker,
    context: ContextId,
    sent: Result<Box<Answer>, Failure>,
    request: &mut Outgoing,
    hints: Option<&Door>,
    ticket: &mut Ticket,
) -> Result<Box<Answer>, Refusal> {
    let reason = match sent {
        Err(failure) => failure.to_string(),
        Ok(answer) if worker.plan.fallback.statuses.contains(&answer.parts.status) => {
            format!("it answered {}", answer.parts.status.as_u16())
        }
        Ok(answer) if answer.rest.as_ref().is_none_or(UpstreamBody::is_read) => return Ok(answer),
        // Boxed, as are other rare turns on the way: every request's future has room for all that is not.
        Ok(answer) => match Box::pin(hold(answer, &worker.plan.fallback)).await {
            Ok(answer) => return Ok(answer),
            Err(error) => format!("its answer broke off: {error}"),
        },
    };
    // Not a warning: with the service gone there would be one for every read. The counter tells.
    tracing::debug!(reason, "the monolith answers instead of the service: {reason}");
    worker.stats.fell_back(context);
    (ticket.side, ticket.fell_back) = (Side::Monolith, true);
    let monolith = worker.plan.monolith;
    let limit = worker.plan.limits.header;
    let answer = Box::pin(forward(worker, monolith, request, hints, limit)).await;
    answer.map_err(|failure| failure.refusal(worker, monolith))
}

/// Reads a small answer to its end. What is large, or trickles, or never ends, goes on as it comes.
async fn hold(mut answer: Box<Answer>, plan: &FallbackPlan) -> Result<Box<Answer>, BoxError> {
    let Some(mut body) = answer.rest.take() else { return Ok(answer) };
    let most = plan.hold_bytes;
    let is_large = usize::try_from(body.size_hint().lower()).map_or(true, |length| length > most);
    let is_endless = answer
        .parts
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if is_large || is_endless {
        answer.rest = Some(body);
        return Ok(answer);
    }
    let deadline = Instant::now() + plan.hold;
    let mut size = 0;
    while !body.is_end_stream() && size <= most {
        match timeout_at(deadline, poll_fn(|cx| body.poll_frame(cx))).await {
            Err(_) | Ok(None) => break,
            Ok(Some(frame)) => {
                let frame = frame?;
                size += frame.data_ref().map_or(0, bytes::Bytes::len);
                answer.held.push_back(frame);
            }
        }
    }
    answer.rest = (!body.is_end_stream()).then_some(body);
    Ok(answer)
}
