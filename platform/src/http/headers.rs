//! The headers that every answer carries.
//!
//! Invariant: what a handler decided for its own answer (a policy for its scripts, a time to cache) is left alone.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Set whatever a handler says.
const ALWAYS: [(HeaderName, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// Set where a handler says nothing.
const UNLESS_SET: [(HeaderName, HeaderValue); 2] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// The headers, formatted once.
#[derive(Debug, Clone)]
pub(super) struct Headers {
    strict_transport: Option<HeaderValue>,
}

impl Headers {
    pub(super) fn new(hsts_max_age_s: u64) -> Self {
        let value = format!("max-age={hsts_max_age_s}");
        let strict_transport = HeaderValue::from_str(&value).ok().filter(|_| hsts_max_age_s > 0);
        Self { strict_transport }
    }

    /// Adds them to an answer, with the id of its request.
    pub(super) fn add(&self, headers: &mut HeaderMap, request_id: HeaderValue) {
        headers.insert(REQUEST_ID, request_id);
        for (name, value) in ALWAYS {
            headers.insert(name, value);
        }
        for (name, value) in UNLESS_SET {
            if !headers.contains_key(&name) {
                headers.insert(name, value);
            }
        }
        if let Some(value) = &self.strict_transport {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, value.clone());
        }
    }
}
