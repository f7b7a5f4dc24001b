//! Forward: one request to one upstream: choose an instance, exchange, and report what came of it.
//!
//! Invariant: a request is sent again only if it was provably not sent, or if it is safe and the connection it was
//! sent on had served others before (RFC 9110 §9.2.2: end of file on such a connection proves nothing either way).

use std::error::Error;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::header::{HOST, HeaderMap, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode, Uri, Version, request};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{sleep, timeout, timeout_at};

use crate::answer::{Answer, Refusal};
use crate::body::{BodyFault, RequestBody, UpstreamBody};
use crate::client::upgrade;
use crate::headers;
use crate::plan::UpstreamId;
use crate::strict;
use crate::upload::Upload;
use crate::upstream::Balancer;
use crate::upstream::chance::jitter;
use crate::upstream::instance::{Kind, add};
use crate::upstream::pool::{ConnectError, Lease, Pool};
use crate::upstream::shared::{Closed, Place};
use crate::worker::Worker;

/// A request without a body, kept so that it can be sent again.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Head {
    pub(crate) fn copy(parts: &request::Parts) -> Self {
        Self { method: parts.method.clone(), uri: parts.uri.clone(), headers: parts.headers.clone() }
    }

    pub(crate) fn take(parts: request::Parts) -> Self {
        Self { method: parts.method, uri: parts.uri, headers: parts.headers }
    }

    pub(crate) fn into_request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        *request.version_mut() = Version::HTTP_11;
        request
    }
}

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
    copy: Option<&'a Head>,
    limit: Duration,
    deadline: Option<Instant>,
}

pub(crate) async fn forward(
    worker: &Worker,
    upstream: UpstreamId,
    request: Box<Request<RequestBody>>,
    copy: Option<&Head>,
    limit: Duration,
) -> Result<Box<Answer>, Failure> {
    let Ok(permit) = worker.adaptive.try_enter(upstream.0) else {
        worker.stats.protect.concurrency_limited(upstream.0);
        return Err(Failure::Shed);
    };
    // How long a client takes to send its body says nothing of the upstream.
    let tells = matches!(request.body(), RequestBody::Empty);
    let sent = send(worker, upstream, request, copy, limit).await;
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
    mut request: Box<Request<RequestBody>>,
    copy: Option<&Head>,
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
    let Some(pool) = balancer.choose(None) else {
        return Err(Failure::Closed(balancer.shared.none_healthy()));
    };
    balancer.budget.earn();
    if !request.headers().contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(pool.instance.authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
    let deadline = worker.plan.limits.total.map(|total| Instant::now() + total);
    let trip = Trip { worker, balancer, copy, limit, deadline };
    let done = match pool.take_idle(&mut place) {
        Some(lease) => match trip.exchange(lease, request).await {
            Ok(answer) => Ok(answer),
            Err(attempt) => Box::pin(trip.again(pool, attempt, place)).await,
        },
        None => Box::pin(trip.anew(pool, request, place, 1)).await,
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
    /// A connection that had served others before failed: that proves nothing of the instance.
    async fn again(&self, pool: &Rc<Pool>, attempt: Attempt, place: Place) -> Result<Box<Answer>, Failure> {
        let request = match (attempt, self.copy) {
            (Attempt::Unsent(unsent), _) => unsent,
            (Attempt::Failed(Failure::Broken(_)), Some(copy)) => Box::new(copy.clone().into_request()),
            (Attempt::Failed(failure), _) => {
                self.failed(pool, &failure);
                return Err(failure);
            }
        };
        let next = self.balancer.choose(Some(pool)).unwrap_or(pool);
        self.anew(next, request, place, 2).await
    }

    /// Over new connections, while attempts and budget last.
    async fn anew(
        &self,
        pool: &Rc<Pool>,
        mut request: Box<Request<RequestBody>>,
        mut place: Place,
        mut attempt: u32,
    ) -> Result<Box<Answer>, Failure> {
        let mut pool = pool;
        loop {
            let (failure, unsent) = match self.connect(pool, &mut place).await {
                Err(error) => (Failure::Connect(error), Some(request)),
                Ok(lease) => match self.exchange(lease, request).await {
                    Ok(answer) => return Ok(answer),
                    Err(Attempt::Unsent(unsent)) => {
                        let reason = "the connection closed before the request was sent".to_owned();
                        (Failure::Broken(reason), Some(unsent))
                    }
                    Err(Attempt::Failed(failure)) => (failure, None),
                },
            };
            self.failed(pool, &failure);
            let may_repeat = matches!(failure, Failure::Broken(_) | Failure::Silent);
            let copy = || self.copy.filter(|_| may_repeat).map(|copy| Box::new(copy.clone().into_request()));
            let Some(again) = unsent.or_else(copy) else { return Err(failure) };
            let Some(next) = self.next(pool, &failure, attempt).await else { return Err(failure) };
            add(&next.cells.retries);
            (pool, request, attempt) = (next, again, attempt + 1);
            if self.balancer.shared.has_bulkhead() && place.is_none() {
                // The attempt that failed has given its place back.
                place = self.balancer.shared.place().await.map_err(Failure::Closed)?;
            }
        }
    }

    /// Who is asked after this failure: another instance at once, the same one only after a pause.
    async fn next(&self, failed: &Rc<Pool>, failure: &Failure, attempt: u32) -> Option<&Rc<Pool>> {
        let retry = &self.balancer.policy.retry;
        let is_late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        if attempt >= retry.attempts || is_late {
            return None;
        }
        let next = self.balancer.choose(Some(failed))?;
        let is_same = Rc::ptr_eq(next, failed);
        // Who was slow will not be quicker for being asked twice.
        if is_same && !matches!(failure, Failure::Connect(ConnectError::Failed(_))) {
            return None;
        }
        if !self.balancer.budget.spend() {
            self.balancer.shared.budget_exhausted.fetch_add(1, Relaxed);
            return None;
        }
        if is_same {
            sleep(Duration::from_millis(jitter(retry.backoff_ms))).await;
        }
        Some(next)
    }

    async fn connect(&self, pool: &Rc<Pool>, place: &mut Place) -> Result<Lease, ConnectError> {
        match self.deadline {
            None => pool.connect(place).await,
            Some(deadline) => {
                timeout_at(deadline.into(), pool.connect(place)).await.unwrap_or(Err(ConnectError::TimedOut))
            }
        }
    }

    async fn exchange(
        &self,
        lease: Lease,
        request: Box<Request<RequestBody>>,
    ) -> Result<Box<Answer>, Attempt> {
        let pool = Rc::clone(lease.pool());
        let answer = exchange(self.worker, lease, request, self.limit, self.deadline).await?;
        match self.balancer.shared.counts(answer.parts.status.as_u16()) {
            false => pool.instance.succeeded(),
            true => self.report(&pool, Kind::Status, answer.parts.status.as_str()),
        }
        Ok(answer)
    }

    fn failed(&self, pool: &Pool, failure: &Failure) {
        let kind = match failure {
            Failure::Connect(_) => Kind::Connect,
            Failure::Silent => Kind::Timeout,
            Failure::Broken(_) => Kind::Broken,
            Failure::Client(_) | Failure::Closed(_) | Failure::Shed => return,
        };
        self.report(pool, kind, &failure.to_string());
    }

    fn report(&self, pool: &Pool, kind: Kind, why: &str) {
        self.balancer.shared.failed(&pool.instance, &pool.cells, kind, why);
    }
}

enum Attempt {
    /// Nothing of it was written; here it is again.
    Unsent(Box<Request<RequestBody>>),
    Failed(Failure),
}

type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

async fn exchange(
    worker: &Worker,
    mut lease: Lease,
    request: Box<Request<RequestBody>>,
    limit: Duration,
    deadline: Option<Instant>,
) -> Result<Box<Answer>, Attempt> {
    let upload = request.body().upload();
    let protocols = request.headers().get(UPGRADE).cloned();
    let sending = lease.sender.try_send_request(*request);
    let sent = match upload {
        None => {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            timeout(left.map_or(limit, |left| left.min(limit)), sending).await.ok()
        }
        Some(upload) => Box::pin(while_it_moves(limit, deadline, &upload, sending)).await,
    };
    match sent {
        None => Err(Attempt::Failed(Failure::Silent)),
        Some(Ok(response)) => receive(worker, lease, response, protocols.as_ref()).map_err(Attempt::Failed),
        Some(Err(mut error)) => Err(match error.take_message() {
            Some(request) => Attempt::Unsent(Box::new(request)),
            None => Attempt::Failed(broken(&error.into_error())),
        }),
    }
}

/// The wait for the answer begins anew with each piece of the request's body.
async fn while_it_moves(
    limit: Duration,
    total: Option<Instant>,
    upload: &Upload,
    sending: impl Future<Output = Sent>,
) -> Option<Sent> {
    tokio::pin!(sending);
    loop {
        let idle = upload.last() + limit;
        let deadline = total.map_or(idle, |total| total.min(idle));
        if let Ok(sent) = timeout_at(deadline.into(), &mut sending).await {
            return Some(sent);
        }
        let now = Instant::now();
        if upload.last() + limit <= now || total.is_some_and(|total| total <= now) {
            return None;
        }
    }
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
    Ok(Answer::streaming(parts, UpstreamBody::new(incoming, lease, worker.plan.limits.body_idle)))
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
