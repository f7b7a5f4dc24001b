//! Forward: one request to one upstream, over a pooled connection or a new one.
//!
//! Invariant: a request is sent again only if it was provably not sent, or if it is safe and the connection it was
//! sent on had served others before (RFC 9110 §9.2.2: end of file on such a connection proves nothing either way).

use std::error::Error;
use std::time::{Duration, Instant};

use http::header::{HOST, HeaderMap, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode, Uri, Version, request};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{timeout, timeout_at};

use crate::answer::{Answer, Refusal};
use crate::body::{BodyFault, RequestBody, UpstreamBody};
use crate::client::upgrade;
use crate::headers;
use crate::plan::UpstreamId;
use crate::pool::{ConnectError, Lease};
use crate::strict;
use crate::upload::Upload;
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
}

pub(crate) async fn forward(
    worker: &Worker,
    upstream: UpstreamId,
    request: Request<RequestBody>,
    copy: Option<&Head>,
    limit: Duration,
) -> Result<Answer, Failure> {
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
    mut request: Request<RequestBody>,
    copy: Option<&Head>,
    limit: Duration,
) -> Result<Answer, Failure> {
    let Some(pool) = worker.pool(upstream) else {
        return Err(Failure::Broken("no such upstream".to_owned()));
    };
    if !request.headers().contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(pool.authority().as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
    if let Some(lease) = pool.take_idle() {
        match exchange(worker, lease, request, limit).await {
            Ok(answer) => return Ok(answer),
            Err(Attempt::Unsent(unsent)) => request = *unsent,
            Err(Attempt::Failed(Failure::Broken(reason))) => match copy {
                Some(copy) => request = copy.clone().into_request(),
                None => return Err(Failure::Broken(reason)),
            },
            Err(Attempt::Failed(failure)) => return Err(failure),
        }
    }
    let lease = Box::pin(pool.connect()).await.map_err(Failure::Connect)?;
    Box::pin(exchange(worker, lease, request, limit)).await.map_err(|attempt| match attempt {
        Attempt::Unsent(_) => Failure::Broken("the connection closed before the request was sent".to_owned()),
        Attempt::Failed(failure) => failure,
    })
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
    request: Request<RequestBody>,
    limit: Duration,
) -> Result<Answer, Attempt> {
    let upload = request.body().upload();
    let protocols = request.headers().get(UPGRADE).cloned();
    let sending = lease.sender.try_send_request(request);
    let sent = match upload {
        None => timeout(limit, sending).await.ok(),
        Some(upload) => Box::pin(while_it_moves(limit, &upload, sending)).await,
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
    upload: &Upload,
    sending: impl Future<Output = Sent>,
) -> Option<Sent> {
    tokio::pin!(sending);
    loop {
        let deadline = upload.last() + limit;
        if let Ok(sent) = timeout_at(deadline.into(), &mut sending).await {
            return Some(sent);
        }
        if upload.last() + limit <= Instant::now() {
            return None;
        }
    }
}

fn receive(
    worker: &Worker,
    lease: Lease,
    response: Response<Incoming>,
    protocols: Option<&HeaderValue>,
) -> Result<Answer, Failure> {
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
        }
    }
}
