//! Forward: one request to one upstream: choose an instance, exchange, and report what came of it.
//!
//! Invariant: a request is sent again only if it was provably not sent, or if it is safe and the connection it was
//! sent on had served others before (RFC 9110 §9.2.2: end of file on such a connection proves nothing either way).

use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use http::header::{HOST, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{sleep, timeout_at};

use crate::answer::{Answer, Refusal};
use crate::body::{BodyFault, RequestBody, UpstreamBody};
use crate::client::hints::Hints;
use crate::client::upgrade;
use crate::headers;
use crate::outgoing::{Outgoing, Spare};
use crate::plan::UpstreamId;
use crate::strict::{self, Door};
use crate::upload::Upload;
use crate::upstream::Balancer;
use crate::upstream::balance::Chosen;
use crate::upstream::chance::jitter;
use crate::upstream::connection::Connection;
use crate::upstream::instance::{Kind, add};
use crate::upstream::pool::{ConnectError, Lease};
use crate::upstream::shared::{Closed, Place};
use crate::worker::Worker;

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
    spare: Option<&'a Spare>,
    /// Where interim answers go.
    hints: Option<&'a Door>,
    limit: Duration,
    deadline: Option<Instant>,
}

pub(crate) async fn forward(
    worker: &Worker,
    upstream: UpstreamId,
    request: Outgoing,
    spare: Option<&Spare>,
    hints: Option<&Door>,
    limit: Duration,
) -> Result<Box<Answer>, Failure> {
    let Ok(permit) = worker.adaptive.try_enter(upstream.0) else {
        return Err(Failure::Shed);
    };
    // How long a client takes to send its body says nothing of the upstream.
    let tells = matches!(request.body, RequestBody::Empty);
    let sent = send(worker, upstream, request, spare, hints, limit).await;
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
    mut request: Outgoing,
    spare: Option<&Spare>,
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
    if !request.parts.headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(chosen.pool.instance.authority.as_str())
    {
        request.parts.headers.insert(HOST, host);
    }
    let deadline = worker.plan.limits.total.map(|total| Instant::now() + total);
    let trip = Trip { worker, balancer, spare, hints, limit, deadline };
    let done = match chosen.pool.take_idle(&mut place) {
        Some(lease) => match trip.exchange(&chosen, lease, request).await {
            Ok(answer) => Ok(answer),
            Err(attempt) => Box::pin(trip.again(chosen, attempt)).await,
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
    async fn again(&self, chosen: Chosen, attempt: Attempt) -> Result<Box<Answer>, Failure> {
        let (request, next) = match (attempt, self.spare) {
            // Nothing of it reached anybody, so the upstream is not asked twice: there is nothing to pay for, and what
            // follows goes over a new connection, so that this happens once at most.
            (Attempt::Unsent(unsent), _) => (unsent, self.other(chosen)),
            (Attempt::Failed(failure @ Failure::Broken(_)), Some(spare)) => {
                if !self.may_repeat(1) || !self.pay() {
                    return Err(failure);
                }
                (spare.outgoing(), self.other(chosen))
            }
            (Attempt::Failed(failure), spare) => {
                self.failed(&chosen, &failure);
                let is_silent = matches!(failure, Failure::Silent);
                let Some(spare) = spare.filter(|_| is_silent) else { return Err(failure) };
                let Some(next) = self.next(&chosen, &failure, 1).await else { return Err(failure) };
                (spare.outgoing(), next)
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
        mut request: Outgoing,
        mut place: Place,
        mut attempt: u32,
    ) -> Result<Box<Answer>, Failure> {
        loop {
            let (failure, unsent) = match self.connect(&chosen, &mut place).await {
                Err(error) => (Failure::Connect(error), Some(request)),
                Ok(lease) => match self.exchange(&chosen, lease, request).await {
                    Ok(answer) => return Ok(answer),
                    Err(Attempt::Unsent(unsent)) => {
                        let reason = "the connection closed before the request was sent".to_owned();
                        (Failure::Broken(reason), Some(unsent))
                    }
                    Err(Attempt::Failed(failure)) => (failure, None),
                },
            };
            self.failed(&chosen, &failure);
            let may_repeat = matches!(failure, Failure::Broken(_) | Failure::Silent);
            let spare = || self.spare.filter(|_| may_repeat).map(Spare::outgoing);
            let Some(again) = unsent.or_else(spare) else { return Err(failure) };
            let Some(next) = self.next(&chosen, &failure, attempt).await else { return Err(failure) };
            add(&next.pool.cells.retries);
            (chosen, request, attempt) = (next, again, attempt + 1);
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
        request: Outgoing,
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
    /// Nothing of it was written; here it is again.
    Unsent(Outgoing),
    Failed(Failure),
}

type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

async fn exchange(
    worker: &Worker,
    mut lease: Lease,
    request: Outgoing,
    hints: Option<&Door>,
    limit: Duration,
    deadline: Option<Instant>,
) -> Result<Box<Answer>, Attempt> {
    let upload = request.body.upload();
    let protocols = request.parts.headers.get(UPGRADE).cloned();
    let Connection { sender, relay, driver, alarm } = &mut lease.connection;
    if upload.is_some() || protocols.is_some() {
        driver.detach();
    }
    let mut hints = hints.map(|door| Hints::new(relay, door, &worker.plan.forwarded));
    relay.begin();
    let mut sending = pin!(sender.try_send_request(request.into_request()));
    let sending = poll_fn(|cx| {
        let sent = driver.poll(cx, |cx| sending.as_mut().poll(cx));
        if let Some(hints) = &mut hints {
            hints.pass_on();
            if driver.is_detached() {
                hints.listen(cx);
            }
        }
        sent
    });
    let sent = match upload {
        None => {
            let (mut sending, late) = (pin!(sending), Instant::now() + limit);
            let late = deadline.map_or(late, |deadline| deadline.min(late)).into();
            poll_fn(|cx| match sending.as_mut().poll(cx) {
                Poll::Ready(sent) => Poll::Ready(Ok(sent)),
                Poll::Pending => alarm.poll(late, cx).map(|()| Err(Failure::Silent)),
            })
            .await
        }
        Some(upload) => Box::pin(while_it_moves(limit, deadline, &upload, sending)).await,
    };
    match sent {
        Err(failure) => Err(Attempt::Failed(failure)),
        Ok(Ok(response)) => {
            let mut answer = receive(worker, lease, response, protocols.as_ref()).map_err(Attempt::Failed)?;
            if let Some(body) = answer.rest.as_mut().filter(|body| !body.is_end_stream()) {
                let seen = poll_fn(|cx| Poll::Ready(body.look(cx))).await;
                seen.map_err(|error| Attempt::Failed(broken(&error)))?;
            }
            if answer.parts.status == StatusCode::RESET_CONTENT {
                answer.drop_content();
            }
            Ok(answer)
        }
        Ok(Err(mut error)) => Err(match error.take_message() {
            Some(request) => Attempt::Unsent(request.into()),
            None => Attempt::Failed(broken(&error.into_error())),
        }),
    }
}

/// The wait for the answer begins anew with each piece of the request's body, and stands still while the client has yet
/// to send one: how long it may take for that is the body's to know.
async fn while_it_moves(
    limit: Duration,
    total: Option<Instant>,
    upload: &Upload,
    sending: impl Future<Output = Sent>,
) -> Result<Sent, Failure> {
    let (mut sending, mut timer) = (pin!(sending), pin!(sleep(limit)));
    poll_fn(|cx| {
        if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
            return Poll::Ready(Ok(sent));
        }
        let due = upload.answer_is_due_since();
        let Some(deadline) = due.map(|since| since + limit).into_iter().chain(total).min() else {
            return Poll::Pending;
        };
        if timer.deadline() != deadline.into() {
            timer.as_mut().reset(deadline.into());
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(due.map_or(Failure::Client(BodyFault::Stalled), |_| Failure::Silent)))
    })
    .await
}

fn receive(
    worker: &Worker,
    lease: Lease,
    response: Response<Incoming>,
    protocols: Option<&HeaderValue>,
) -> Result<Box<Answer>, Failure> {
    let (mut parts, incoming) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return upgrade::switched(parts, protocols, &worker.plan.forwarded)
            .ok_or_else(|| Failure::Broken("it switched protocols unasked".to_owned()));
    }
    strict::answers::check(&parts).map_err(|fault| Failure::Broken(fault.to_owned()))?;
    headers::to_client(&mut parts, &worker.plan.forwarded);
    let body = UpstreamBody::new(incoming, &parts.headers, lease, worker.plan.limits.body_idle);
    Ok(Answer::streaming(parts, body))
}

fn broken(error: &hyper::Error) -> Failure {
    match error.source().and_then(|source| source.downcast_ref::<BodyFault>()) {
        Some(fault) => Failure::Client(*fault),
        None => Failure::Broken(platform::error::chain(error)),
    }
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
