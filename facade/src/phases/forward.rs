//! Forward: one request to one upstream: choose an instance, exchange, and report what came of it.
//!
//! Invariant: a request is sent again only if it was provably not sent, or if it is safe and the connection it was
//! sent on had served others before (RFC 9110 §9.2.2: end of file on such a connection proves nothing either way).

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::{StatusCode, response};
use tokio::time::{sleep, timeout, timeout_at};

use crate::answer::{Answer, Refusal};
use crate::body::{BodyFault, RequestBody, UpstreamBody};
use crate::client::{hints, upgrade};
use crate::headers;
use crate::outgoing::{Outgoing, SendError};
use crate::plan::UpstreamId;
use crate::strict::{Door, answers};
use crate::upstream::Balancer;
use crate::upstream::balance::Chosen;
use crate::upstream::chance::jitter;
use crate::upstream::connection::Connection;
use crate::upstream::incoming::Incoming;
use crate::upstream::instance::{Kind, add};
use crate::upstream::pool::{ConnectError, Lease};
use crate::upstream::shared::{Closed, Place};
use crate::worker::Worker;

/// How long an upstream that has answered may stop taking the request's body. A client that reads only once it has sent all
/// waits as long for its answer.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why there is no answer of the upstream.
#[derive(Debug)]
pub(crate) enum Failure {
    Connect(ConnectError),
    /// No answer in time.
    Silent,
    /// The connection broke, or what came was no answer.
    Broken(String),
    /// The client's own body is at fault.
    Client(BodyFault),
    /// It has as many requests as it can take.
    Shed,
    /// It was not asked.
    Closed(Closed),
}

/// What is the same for all attempts of one request.
struct Trip<'a> {
    worker: &'a Worker,
    balancer: &'a Balancer,
    /// Where interim answers go.
    hints: Option<&'a Door>,
    limit: Duration,
    deadline: Option<Instant>,
}

pub(crate) async fn forward(
    worker: &Worker,
    upstream: UpstreamId,
    request: &mut Outgoing,
    hints: Option<&Door>,
    limit: Duration,
) -> Result<Box<Answer>, Failure> {
    let Ok(permit) = worker.adaptive.try_enter(upstream.0) else {
        return Err(Failure::Shed);
    };
    // How long a client takes to send its body says nothing of the upstream.
    let tells = matches!(request.body, RequestBody::Empty);
    let sent = send(worker, upstream, request, hints, limit).await;
    match &sent {
        Ok(_) if tells => permit.answered(),
        Err(Failure::Silent | Failure::Connect(ConnectError::TimedOut)) => permit.timed_out(),
        _ => drop(permit),
    }
    sent
}

async fn send(
    worker: &Worker,
    upstream: UpstreamId,
    request: &mut Outgoing,
    hints: Option<&Door>,
    limit: Duration,
) -> Result<Box<Answer>, Failure> {
    let Some(balancer) = worker.balancer(upstream) else {
        return Err(Failure::Broken("no such upstream".to_owned()));
    };
    let leave = balancer.shared.enter().map_err(Failure::Closed)?;
    let mut place = match balancer.shared.has_bulkhead() {
        true => Box::pin(balancer.shared.place()).await.map_err(Failure::Closed)?,
        false => None,
    };
    let Some(chosen) = balancer.choose(None) else {
        return Err(Failure::Closed(balancer.shared.none_healthy()));
    };
    balancer.budget.earn();
    request.name_host(chosen.pool.instance.authority.as_str());
    let deadline = worker.plan.limits.total.map(|total| Instant::now() + total);
    let trip = Trip { worker, balancer, hints, limit, deadline };
    let done = match chosen.pool.take_idle(&mut place) {
        Some(lease) => match trip.exchange(&chosen, lease, request).await {
            Ok(answer) => Ok(answer),
            Err(attempt) => Box::pin(trip.again(chosen, attempt, request)).await,
        },
        None => Box::pin(trip.anew(chosen, request, place, 1)).await,
    };
    // The instance answered, or the last one asked did: what that means for the upstream is told once.
    match &done {
        Ok(answer) if !balancer.shared.counts(answer.parts.status.as_u16()) => {
            balancer.shared.breaker.succeeded(&leave)
        }
        Err(Failure::Client(_) | Failure::Closed(_) | Failure::Shed) => {}
        _ => balancer.shared.breaker.failed(&leave, || balancer.shared.requests()),
    }
    done
}

impl Trip<'_> {
    /// A connection that had served others before failed. If it broke, that proves nothing of the instance.
    async fn again(
        &self,
        chosen: Chosen,
        attempt: Attempt,
        request: &mut Outgoing,
    ) -> Result<Box<Answer>, Failure> {
        let next = match attempt {
            // Nothing of it reached anybody, so the upstream is not asked twice: there is nothing to pay for, and what
            // follows goes over a new connection, so that this happens once at most.
            Attempt::Unsent => self.other(chosen),
            Attempt::Failed(failure @ Failure::Broken(_)) if request.is_repeatable() => {
                if !self.may_repeat(1) || !self.pay() {
                    return Err(failure);
                }
                self.other(chosen)
            }
            Attempt::Failed(failure) => {
                self.failed(&chosen, &failure);
                if !matches!(failure, Failure::Silent) || !request.is_repeatable() {
                    return Err(failure);
                }
                let Some(next) = self.next(&chosen, &failure, 1).await else { return Err(failure) };
                next
            }
        };
        add(&next.pool.cells.retries);
        let place = self.place().await?;
        self.anew(next, request, place, 2).await
    }

    /// Another instance, or the same where there is no other.
    fn other(&self, chosen: Chosen) -> Chosen {
        self.balancer.choose(Some(&chosen.pool)).unwrap_or(chosen)
    }

    /// Over new connections, while attempts and budget last.
    async fn anew(
        &self,
        mut chosen: Chosen,
        request: &mut Outgoing,
        mut place: Place,
        mut attempt: u32,
    ) -> Result<Box<Answer>, Failure> {
        loop {
            let (failure, is_unsent) = match self.connect(&chosen, &mut place).await {
                Err(error) => (Failure::Connect(error), true),
                Ok(lease) => match self.exchange(&chosen, lease, request).await {
                    Ok(answer) => return Ok(answer),
                    Err(Attempt::Unsent) => {
                        let reason = "the connection closed before the request was sent".to_owned();
                        (Failure::Broken(reason), true)
                    }
                    Err(Attempt::Failed(failure)) => (failure, false),
                },
            };
            self.failed(&chosen, &failure);
            let may_repeat =
                request.is_repeatable() && matches!(failure, Failure::Broken(_) | Failure::Silent);
            if !is_unsent && !may_repeat {
                return Err(failure);
            }
            let Some(next) = self.next(&chosen, &failure, attempt).await else { return Err(failure) };
            add(&next.pool.cells.retries);
            (chosen, attempt) = (next, attempt + 1);
            if place.is_none() {
                place = self.place().await?;
            }
        }
    }

    /// A place for another attempt; the one that failed has given its own back.
    async fn place(&self) -> Result<Place, Failure> {
        self.balancer.shared.place().await.map_err(Failure::Closed)
    }

    /// Who is asked after this failure: another instance at once, the same one only after a pause.
    async fn next(&self, failed: &Chosen, failure: &Failure, attempt: u32) -> Option<Chosen> {
        if !self.may_repeat(attempt) {
            return None;
        }
        let next = self.balancer.choose(Some(&failed.pool))?;
        let is_same = Rc::ptr_eq(&next.pool, &failed.pool);
        // Who was slow will not be quicker for being asked twice.
        if (is_same && !matches!(failure, Failure::Connect(ConnectError::Failed(_)))) || !self.pay() {
            return None;
        }
        if is_same {
            sleep(Duration::from_millis(jitter(self.balancer.policy.retry.backoff_ms))).await;
        }
        Some(next)
    }

    fn may_repeat(&self, attempt: u32) -> bool {
        let is_late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        attempt < self.balancer.policy.retry.attempts && !is_late
    }

    /// Whether the budget has room for another attempt.
    fn pay(&self) -> bool {
        let is_paid = self.balancer.budget.spend();
        if !is_paid {
            self.balancer.shared.budget_exhausted.fetch_add(1, Relaxed);
        }
        is_paid
    }

    async fn connect(&self, chosen: &Chosen, place: &mut Place) -> Result<Lease, ConnectError> {
        let connecting = chosen.pool.connect(place);
        match self.deadline {
            None => connecting.await,
            Some(deadline) => {
                timeout_at(deadline.into(), connecting).await.unwrap_or(Err(ConnectError::TimedOut))
            }
        }
    }

    async fn exchange(
        &self,
        chosen: &Chosen,
        lease: Lease,
        request: &mut Outgoing,
    ) -> Result<Box<Answer>, Attempt> {
        let answer = exchange(self.worker, lease, request, self.hints, self.limit, self.deadline).await?;
        match self.balancer.shared.counts(answer.parts.status.as_u16()) {
            false => chosen.pool.instance.succeeded(chosen.era),
            true => self.balancer.shared.failed(chosen, Kind::Status, answer.parts.status.as_str()),
        }
        Ok(answer)
    }

    fn failed(&self, chosen: &Chosen, failure: &Failure) {
        let kind = match failure {
            Failure::Connect(_) => Kind::Connect,
            Failure::Silent => Kind::Timeout,
            Failure::Broken(_) => Kind::Broken,
            Failure::Client(_) | Failure::Closed(_) | Failure::Shed => return,
        };
        self.balancer.shared.failed(chosen, kind, &failure.to_string());
    }
}

enum Attempt {
    /// Nothing of the request was written.
    Unsent,
    Failed(Failure),
}

async fn exchange(
    worker: &Worker,
    mut lease: Lease,
    request: &mut Outgoing,
    hints: Option<&Door>,
    limit: Duration,
    deadline: Option<Instant>,
) -> Result<Box<Answer>, Attempt> {
    request.begin();
    let upload = request.body.upload();
    let begun = Instant::now();
    let connection = &mut lease.connection;
    let head = poll_fn(|cx| {
        if let Poll::Ready(done) = poll_answer(worker, connection, request, hints, cx) {
            return Poll::Ready(done);
        }
        // The wait begins anew with each piece of the request's body, and stands still while the client has yet to send
        // one: how long it may take for that is the body's to know.
        let since = upload.as_ref().map_or(Some(begun), |upload| upload.answer_is_due_since());
        let due = since.map(|since| since + limit);
        let Some(end) = due.into_iter().chain(deadline).min() else { return Poll::Pending };
        ready!(connection.alarm.poll(end.into(), cx));
        let failure = due.map_or(Failure::Client(BodyFault::Stalled), |_| Failure::Silent);
        Poll::Ready(Err(Attempt::Failed(failure)))
    });
    let parts = head.await?;
    let mut answer = receive(worker, lease, parts, request).map_err(Attempt::Failed)?;
    if let Some(body) = answer.rest.as_mut().filter(|body| !body.is_end_stream()) {
        let seen = poll_fn(|cx| Poll::Ready(body.look(cx))).await;
        seen.map_err(|error| Attempt::Failed(Failure::Broken(error.to_string())))?;
    }
    if answer.parts.status == StatusCode::RESET_CONTENT {
        answer.drop_content();
    }
    Ok(answer)
}

/// Sends, and reads up to the head of the final answer, which may come before the request is sent.
fn poll_answer(
    worker: &Worker,
    connection: &mut Connection,
    request: &mut Outgoing,
    hints: Option<&Door>,
    cx: &mut Context<'_>,
) -> Poll<Result<response::Parts, Attempt>> {
    loop {
        if let Some(writer) = &mut connection.writer
            && let Poll::Ready(Err(error)) = request.poll_send(writer, cx)
        {
            match error {
                SendError::Client(fault) => return Poll::Ready(Err(Attempt::Failed(Failure::Client(fault)))),
                SendError::Upstream if request.is_unsent() => return Poll::Ready(Err(Attempt::Unsent)),
                // Who closes early may have said why.
                SendError::Upstream => connection.writer = None,
            }
        }
        let mut asks = false;
        loop {
            let Poll::Ready(head) = connection.poll_head(cx) else { break };
            let parts = head.map_err(|error| Attempt::Failed(Failure::Broken(error.to_string())))?;
            if !parts.status.is_informational() || parts.status == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Ok(parts));
            }
            // A 100 is for whoever waits to send a body; it goes no further.
            if parts.status == StatusCode::CONTINUE {
                asks = true;
            } else if let Some(door) = hints {
                hints::pass_on(parts, door, &worker.plan.forwarded);
            }
        }
        // Only now: a client that is answered at once is not asked for its body any more.
        if !asks || !request.body.open_gate() {
            return Poll::Pending;
        }
    }
}

fn receive(
    worker: &Worker,
    mut lease: Lease,
    mut parts: response::Parts,
    request: &mut Outgoing,
) -> Result<Box<Answer>, Failure> {
    let broken = |fault: &str| Failure::Broken(fault.to_owned());
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let switched = upgrade::switched(parts, lease, request.protocols.as_ref(), &worker.plan.forwarded);
        return switched.ok_or_else(|| broken("it switched protocols unasked"));
    }
    let framing = answers::framing(&parts).map_err(broken)?;
    let has_none = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let incoming = if request.is_head || has_none { Incoming::Nothing } else { framing.into() };
    lease.connection.keeps = answers::keeps_alive(&parts) && !matches!(incoming, Incoming::UntilClose);
    if !request.is_sent() {
        go_on(&mut lease.connection, request, worker.plan.limits.body_idle);
    }
    headers::to_client(&mut parts, &worker.plan.forwarded);
    let body = UpstreamBody::new(incoming, &parts.headers, lease, worker.plan.limits.body_idle);
    Ok(Answer::streaming(parts, body))
}

/// The answer came before the request was sent: the rest goes on beside it, because a client may read no answer before it
/// has sent all, and the upstream may want all although it has answered. A body that nobody asked for stays unsent.
fn go_on(connection: &mut Connection, request: &mut Outgoing, patience: Duration) {
    let Some(mut writer) = connection.writer.take() else { return };
    if request.body.is_gated() {
        return writer.forget();
    }
    let mut rest = request.take_rest();
    let patience = patience.min(LAST_WORDS);
    tokio::task::spawn_local(async move {
        while !rest.is_sent() {
            match timeout(patience, poll_fn(|cx| rest.poll_step(&mut writer, cx))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                // How long the client may take is its body's to know.
                Err(_) if rest.waits_for_client() => {}
                Err(_) => return,
            }
        }
        // The upstream hears the end by the framing; it has to see no end of the stream before its answer is out.
        writer.forget();
    });
}

impl Failure {
    /// What the client is told. The reason stays in the log: it speaks of addresses inside.
    pub(crate) fn refusal(self, worker: &Worker, upstream: UpstreamId) -> Refusal {
        let name = worker.plan.upstream(upstream).map_or("", |upstream| upstream.name.as_str());
        let (status, detail) = match &self {
            Self::Connect(ConnectError::TimedOut) => {
                (StatusCode::GATEWAY_TIMEOUT, "cannot be reached in time")
            }
            Self::Connect(ConnectError::Failed(_)) => (StatusCode::BAD_GATEWAY, "cannot be reached"),
            Self::Silent => (StatusCode::GATEWAY_TIMEOUT, "did not answer in time"),
            Self::Broken(_) => (StatusCode::BAD_GATEWAY, "broke off or gave no valid answer"),
            Self::Shed => {
                let detail = format!("the upstream {name} has as many requests as it can take");
                return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1);
            }
            Self::Closed(closed) => return closed.refusal(name),
            Self::Client(fault) => return fault.refusal(),
        };
        tracing::warn!(upstream = name, failure = %self, "upstream {name}: {self}");
        Refusal::new(status, format!("the upstream {name} {detail}"))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(ConnectError::Failed(error)) => write!(f, "cannot connect: {error}"),
            Self::Connect(ConnectError::TimedOut) => f.write_str("no connection in time"),
            Self::Silent => f.write_str("no answer in time"),
            Self::Broken(reason) => write!(f, "no valid answer: {reason}"),
            Self::Client(fault) => write!(f, "{fault}"),
            Self::Shed => f.write_str("as many requests as it can take"),
            Self::Closed(closed) => f.write_str(closed.reason()),
        }
    }
}
