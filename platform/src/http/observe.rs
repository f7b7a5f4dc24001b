//! The one layer around every handler: identifiers, headers, error documents, compression, counts and the log line.
//!
//! Invariant: every answer carries `x-request-id` and leaves one line in the log, and a handler that panics costs its
//! own request only. It is one layer, and no boxed future, because each request pays for it.

use std::fmt;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::error::InternalError;
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode, Uri};
use actix_web::{Error, HttpMessage, HttpResponse, ResponseError};
use pin_project_lite::pin_project;
use tracing::{Level, Span};

use super::HttpSettings;
use super::compress::{Body, compress};
use super::fault;
use super::headers::Headers;
use super::request::Known;
use super::stats::{Families, InFlight, Stats};
use crate::metrics::Metrics;
use crate::problem::Problem;

/// The layer; each worker makes its own service of a clone.
#[derive(Clone)]
pub(super) struct Observe {
    families: Families,
    headers: Headers,
    compress_min_bytes: u64,
}

impl Observe {
    pub(super) fn new(settings: &HttpSettings, metrics: &Metrics) -> Self {
        Self {
            families: Families::new(metrics),
            headers: Headers::new(settings.hsts_max_age_s),
            compress_min_bytes: settings.compress_min_bytes,
        }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Observe
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<Body<B>>;
    type Error = Error;
    type Transform = Observed<S>;
    type InitError = ();
    type Future = Ready<Result<Observed<S>, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let Self { families, headers, compress_min_bytes } = self.clone();
        let worker = Worker { stats: Stats::new(families), headers, compress_min_bytes };
        ready(Ok(Observed { service, worker: Rc::new(worker) }))
    }
}

/// What the requests of one worker share.
struct Worker {
    stats: Stats,
    headers: Headers,
    compress_min_bytes: u64,
}

pub(super) struct Observed<S> {
    service: S,
    worker: Rc<Worker>,
}

impl<S, B> Service<ServiceRequest> for Observed<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<Body<B>>;
    type Error = Error;
    type Future = Answering<S::Future, B>;

    forward_ready!(service);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let entry = Entry {
            started: Instant::now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            known: Rc::new(Known::read(request.headers())),
            _in_flight: self.worker.stats.begin(),
        };
        // HEAD is GET without the body (RFC 9110 §9.3.2), which the HTTP library leaves out itself.
        if entry.method == Method::HEAD {
            request.head_mut().method = Method::GET;
        }
        let span = tracing::info_span!("request", request_id = %entry.known);
        request.extensions_mut().insert(Rc::clone(&entry.known));
        let future = span.in_scope(|| self.service.call(request));
        let worker = Rc::clone(&self.worker);
        Answering { future, span, entry: Some(entry), worker, body: PhantomData }
    }
}

/// What is remembered of a request until it is answered.
struct Entry {
    started: Instant,
    method: Method,
    uri: Uri,
    known: Rc<Known>,
    _in_flight: InFlight,
}

pin_project! {
    pub(super) struct Answering<F, B> {
        #[pin]
        future: F,
        span: Span,
        entry: Option<Entry>,
        worker: Rc<Worker>,
        body: PhantomData<B>,
    }
}

impl<F, B> Future for Answering<F, B>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
    B: MessageBody + 'static,
{
    type Output = Result<ServiceResponse<Body<B>>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _entered = this.span.enter();
        let future = this.future;
        // A future that panicked is not polled again: its request is answered with an error now.
        let outcome = match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(polled) => Ok(ready!(polled)),
            Err(panic) => Err(panic),
        };
        let Some(entry) = this.entry.take() else { return Poll::Pending };
        Poll::Ready(match outcome {
            Ok(Ok(response)) => Ok(this.worker.finish(&entry, response)),
            Ok(Err(error)) => Err(this.worker.pass_on(&entry, error)),
            Err(panic) => Err(this.worker.give_up(&entry, &Panicked(fault::said(panic.as_ref()).to_owned()))),
        })
    }
}

impl Worker {
    fn finish<B: MessageBody + 'static>(
        &self,
        entry: &Entry,
        response: ServiceResponse<B>,
    ) -> ServiceResponse<Body<B>> {
        let mut response = fault::explain(response, &entry.method);
        self.headers.add(response.headers_mut(), entry.known.header());
        let response = compress(response, self.compress_min_bytes);
        self.record(entry, response.request().match_pattern(), response.status());
        response
    }

    /// A layer of the process's own refused the request with an error that says how to answer it.
    fn pass_on(&self, entry: &Entry, error: Error) -> Error {
        let mut response = error.error_response();
        self.headers.add(response.headers_mut(), entry.known.header());
        self.record(entry, None, response.status());
        InternalError::from_response(error, response).into()
    }

    /// There is no answer, and the request is gone with whatever failed: only its head is still known.
    fn give_up(&self, entry: &Entry, error: &dyn fmt::Display) -> Error {
        let Entry { method, uri, .. } = entry;
        let path = uri.path();
        tracing::error!(%method, path, %error, "{method} {path} failed: {error}");
        self.record(entry, None, StatusCode::INTERNAL_SERVER_ERROR);
        let mut headers = HeaderMap::new();
        self.headers.add(&mut headers, entry.known.header());
        Failed { headers }.into()
    }

    fn record(&self, entry: &Entry, route: Option<String>, status: StatusCode) {
        let duration = entry.started.elapsed();
        self.stats.end(&entry.method, route, status, duration);
        if status.is_server_error() {
            log(entry, status, duration, Severity::Warning);
        } else if tracing::enabled!(Level::DEBUG) {
            log(entry, status, duration, Severity::Detail);
        }
    }
}

enum Severity {
    Warning,
    Detail,
}

fn log(entry: &Entry, status: StatusCode, duration: Duration, severity: Severity) {
    let Entry { method, uri, known, .. } = entry;
    let (path, status) = (uri.path(), status.as_u16());
    let duration_ms = duration.as_secs_f64() * 1000.0;
    let trace_id = known.trace_id();
    match severity {
        Severity::Warning => {
            tracing::warn!(%trace_id, %method, path, status, duration_ms, "{method} {path} answered {status}");
        }
        Severity::Detail => {
            tracing::debug!(%trace_id, %method, path, status, duration_ms, "{method} {path} answered {status}");
        }
    }
}

/// A handler's panic, as the log shows it.
#[derive(Debug, thiserror::Error)]
#[error("the handler panicked: {0}")]
struct Panicked(String);

/// The answer where nothing is left to answer with.
#[derive(Debug, thiserror::Error)]
#[error("the request failed inside the server")]
struct Failed {
    headers: HeaderMap,
}

impl ResponseError for Failed {
    fn error_response(&self) -> HttpResponse {
        let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR)
            .detail("the server failed on this request; its log says more under the request's id");
        let mut response = problem.error_response();
        for (name, value) in &self.headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        response
    }
}
