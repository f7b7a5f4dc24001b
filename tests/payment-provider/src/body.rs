//! What is read off a request, strictly, and how a failure is written.
//!
//! Invariant: a field or parameter that nothing reads is refused, and every failure is problem+json.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::{StatusCode, header};
use actix_web::web::{Bytes, Query};
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError};
use platform::problem::{CONTENT_TYPE, Problem};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::book::Refusal;

/// A request body of type `T`.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = Bytes::from_request(request, payload);
        Box::pin(async move {
            let bytes = bytes.await.map_err(|error| match error.as_error::<PayloadError>() {
                Some(PayloadError::Overflow) => Problem::new(StatusCode::PAYLOAD_TOO_LARGE),
                _ => Problem::new(StatusCode::BAD_REQUEST).detail("the body broke off"),
            })?;
            parse(&bytes).map(Body)
        })
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let text = error.inner().to_string();
        if !error.inner().is_data() {
            return Problem::new(StatusCode::BAD_REQUEST).detail(format!("the body is not JSON: {text}"));
        }
        let path = error.path().to_string();
        let field = if path == "." { "body" } else { &path };
        let message = text.split(" at line ").next().unwrap_or(&text);
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
            .detail(format!("`{field}`: {message}"))
            .field(field, message)
    })?;
    json.end().map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST).detail("the body goes on after its JSON document")
    })?;
    Ok(parsed)
}

/// The query parameters as `T`.
pub(crate) fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    Query::from_query(request.query_string()).map(Query::into_inner).map_err(|error| {
        let text = error.to_string();
        let what = text.strip_prefix("Query deserialize error: ").unwrap_or(&text);
        Problem::new(StatusCode::BAD_REQUEST).detail(format!("the query string is wrong: {what}"))
    })
}

/// A failed request, with a word for programs where the status alone does not say why.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    #[serde(flatten)]
    problem: Problem,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem, code: None }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = match &refusal {
            Refusal::NotFound { .. } => (StatusCode::NOT_FOUND, None),
            Refusal::Declined { code } => (StatusCode::PAYMENT_REQUIRED, Some(*code)),
            Refusal::Closed { code, .. } => (StatusCode::CONFLICT, Some(*code)),
            Refusal::KeyReused { .. } => (StatusCode::UNPROCESSABLE_ENTITY, Some("key_reused")),
            Refusal::Unwritable => (StatusCode::SERVICE_UNAVAILABLE, None),
        };
        Self { problem: Problem::new(status).detail(refusal.to_string()), code }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.problem.fmt(f)
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        self.problem.status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = self.problem.error_response();
        if self.code.is_none() {
            return response;
        }
        let body = serde_json::to_string(self).unwrap_or_default();
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(CONTENT_TYPE));
        response.set_body(body).map_into_boxed_body()
    }
}
