//! What is known of a request before its handler runs: its id and its trace.
//!
//! Invariant: every answer carries `x-request-id`, and every request leaves one line in the log.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest};
use tracing::Instrument;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The identifiers of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// From the client's `x-request-id` where that is sane, else a new one.
    pub request_id: String,
    /// The client's W3C `traceparent`, where it is valid.
    pub traceparent: Option<String>,
}

/// The identifiers of the request that a handler answers.
pub fn request_info(request: &HttpRequest) -> RequestInfo {
    request.extensions().get::<RequestInfo>().cloned().unwrap_or_else(|| read(request))
}

fn read(request: &HttpRequest) -> RequestInfo {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let request_id = header("x-request-id").filter(|id| is_sane(id)).map(str::to_owned);
    RequestInfo {
        request_id: request_id.unwrap_or_else(|| Uuid::new_v4().simple().to_string()),
        traceparent: header("traceparent").filter(|value| is_traceparent(value)).map(str::to_owned),
    }
}

/// Short and of harmless characters, so that it can stand in logs and headers as it is.
fn is_sane(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// `version-trace_id-parent_id-flags` in lower-case hexadecimal (W3C Trace Context, section 3.2).
fn is_traceparent(value: &str) -> bool {
    let lengths: Vec<usize> = value.split('-').map(str::len).collect();
    let hexadecimal = value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    lengths == [2, 32, 16, 2] && hexadecimal && !value.starts_with("ff")
}

pub(super) async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let info = read(request.request());
    let method = request.method().clone();
    let path = request.path().to_owned();
    let span = tracing::info_span!("request", request_id = %info.request_id, traceparent = info.traceparent);
    let value = HeaderValue::from_str(&info.request_id);
    request.extensions_mut().insert(info);
    let mut response = next.call(request).instrument(span.clone()).await?;
    if let Ok(value) = value {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    let duration_ms = started.elapsed().as_secs_f64() * 1000.0;
    let _entered = span.enter();
    if status >= 500 {
        tracing::warn!(%method, path, status, duration_ms, "{method} {path} answered {status}");
    } else {
        tracing::debug!(%method, path, status, duration_ms, "{method} {path} answered {status}");
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sane_ids_and_valid_traces_are_taken_over() {
        assert!(is_sane("a-1_b.2") && !is_sane("") && !is_sane("a b") && !is_sane(&"x".repeat(65)));
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert!(!is_traceparent("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"));
        assert!(!is_traceparent("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    }
}
