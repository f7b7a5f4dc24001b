//! Problem documents for what goes wrong around a handler.
//!
//! Invariant: an answer that a handler wrote is never replaced, and nothing of the server's inside is told.

use std::any::Any;

use actix_web::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};

use super::compress::Body;
use crate::problem::{CONTENT_TYPE, Problem};

/// Gives an error that the HTTP library answered, with a text of its own or with nothing, the form of all our errors.
pub(super) fn explain<B: MessageBody>(
    response: ServiceResponse<B>,
    method: &Method,
) -> ServiceResponse<Body<B>> {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || has_document(&response) {
        return response.map_into_left_body();
    }
    let problem = problem(&response, method);
    let mut response = response.map_body(|_, _| EitherBody::right(BoxBody::new(problem.to_json())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

/// Whether somebody meant the body as it is.
fn has_document<B: MessageBody>(response: &ServiceResponse<B>) -> bool {
    let media_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if media_type.is_some_and(|media_type| media_type.contains("json")) {
        return true;
    }
    let is_empty = matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0));
    response.response().error().is_none() && !is_empty
}

fn problem<B>(response: &ServiceResponse<B>, method: &Method) -> Problem {
    let status = response.status();
    let path = response.request().path();
    let problem = Problem::new(status);
    match response.response().error() {
        Some(error) if status.is_server_error() => {
            tracing::error!(%method, path, %error, "{method} {path} failed: {error}");
            problem
        }
        Some(error) => problem.detail(error.to_string()),
        None if status == StatusCode::NOT_FOUND => problem.detail(format!("there is nothing at {path}")),
        None if status == StatusCode::METHOD_NOT_ALLOWED => {
            let allowed = response.headers().get(header::ALLOW).and_then(|value| value.to_str().ok());
            let allowed = allowed.unwrap_or("see its documentation");
            problem.detail(format!("{path} does not know {method}; allowed: {allowed}"))
        }
        None => problem,
    }
}

/// What a panic said.
pub(super) fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
