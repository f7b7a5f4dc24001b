//! JSON bodies, read strictly.
//!
//! Invariant: what reaches a handler had the right content type and size, was JSON, and held exactly the fields of
//! its type. Each way to fail has its own status: 415, 413, 400, and 422 with the path of the field.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::{StatusCode, header};
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use platform::http::BodyLimit;
use platform::problem::Problem;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::object::Object;
use crate::query::Parameters;

/// A request body of type `T`, for resources that take no query parameters.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = read(request, payload);
        Box::pin(async move { parse(&bytes.await?).map(Body) })
    }
}

/// The bytes of a body that came as it should.
pub(crate) fn read(
    request: &HttpRequest,
    payload: &mut Payload,
) -> impl Future<Output = Result<Bytes, Problem>> + 'static + use<> {
    let limit = request.app_data::<BodyLimit>().map(|limit| limit.0);
    let checked = Parameters::parse(request, &[]).and_then(|_| check_headers(request));
    let bytes = Bytes::from_request(request, payload);
    async move {
        checked?;
        bytes.await.map_err(|error| unread(&error, limit))
    }
}

/// 400 for a body where none belongs.
pub(crate) fn unexpected() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST).detail("this request takes no body; send it without one")
}

fn check_headers(request: &HttpRequest) -> Result<(), Problem> {
    let unsupported = |detail| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE).detail(detail);
    if request.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(unsupported("send the body as it is, without a content-encoding"));
    }
    if is_json(request.content_type()) {
        return Ok(());
    }
    Err(unsupported("send the body as application/json, with that content-type"))
}

fn is_json(content_type: &str) -> bool {
    let content_type = content_type.to_ascii_lowercase();
    content_type == "application/json"
        || (content_type.starts_with("application/") && content_type.ends_with("+json"))
}

fn unread(error: &actix_web::Error, limit: Option<usize>) -> Problem {
    if matches!(error.as_error::<PayloadError>(), Some(PayloadError::Overflow)) {
        let limit = limit.map_or_else(|| "the limit".to_owned(), |limit| format!("{limit} bytes"));
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE)
            .detail(format!("the body is larger than {limit}"));
    }
    Problem::new(StatusCode::BAD_REQUEST).detail("the body broke off")
}

/// Two passes: the first answers whether it is JSON at all, so that a body which also holds an unknown field is not
/// called unprocessable where it is broken.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| not_json(bytes, &error))?;
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Object(body) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (field, message) = explain(&error.path().to_string(), &error.inner().to_string());
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
            .detail(format!("`{field}` {message}"))
            .field(field, message)
    })?;
    Ok(body)
}

fn not_json(bytes: &[u8], error: &serde_json::Error) -> Problem {
    let problem = Problem::new(StatusCode::BAD_REQUEST);
    if bytes.is_empty() {
        return problem.detail("the body is empty; send a JSON document");
    }
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    problem.detail(format!("the body is not JSON: {what} at line {} column {}", error.line(), error.column()))
}

/// The path of the field at fault and what is wrong with it, from the words of serde.
fn explain(path: &str, text: &str) -> (String, String) {
    let text = text.split(" at line ").next().unwrap_or(text);
    let named = text.split('`').nth(1).unwrap_or_default();
    let parent = if path == "." { "" } else { path };
    if text.starts_with("missing field") {
        return (join(parent, named), "is missing".to_owned());
    }
    if text.starts_with("duplicate field") {
        return (join(parent, named), "stands there more than once".to_owned());
    }
    if text.starts_with("unknown field") {
        let known: Vec<&str> = text.split('`').skip(3).step_by(2).collect();
        let full = if is_last(parent, named) { parent.to_owned() } else { join(parent, named) };
        return (full, format!("is not known here; known are {}", known.join(", ")));
    }
    let field = if parent.is_empty() { "body" } else { parent };
    (field.to_owned(), plain(text))
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

fn is_last(path: &str, name: &str) -> bool {
    path == name || path.strip_suffix(name).is_some_and(|parent| parent.ends_with('.'))
}

/// Clients know JSON, not Rust: its type names are put into words.
fn plain(text: &str) -> String {
    let text = match text.rsplit_once(", expected ") {
        Some((found, "u32" | "i64")) => format!("{found}, expected a whole number in range"),
        _ => text.to_owned(),
    };
    text.replace("a map", "an object")
        .replace("a sequence", "an array")
        .replace("type: map", "type: object")
        .replace("type: sequence", "type: array")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(rename = "name")]
        _name: String,
        #[serde(rename = "lines", default)]
        _lines: Vec<Object<Line>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        #[serde(rename = "count")]
        _count: u32,
        #[serde(rename = "price", default)]
        _price: Option<contracts::Money>,
    }

    fn fault(body: &str) -> (u16, String, String) {
        let problem = parse::<Sample>(body.as_bytes()).expect_err(body);
        let field = problem.errors.first();
        (
            problem.status,
            field.map(|field| field.field.clone()).unwrap_or_default(),
            field.map(|field| field.message.clone()).or(problem.detail).unwrap_or_default(),
        )
    }

    #[test]
    fn what_is_not_json_is_placed_by_line_and_column() {
        let (status, field, message) = fault("{\"name\": \"a\",\n nope}");
        assert_eq!((status, field.as_str()), (400, ""));
        assert!(message.contains("line 2 column 2"), "{message}");
        for body in ["", "{", "{\"unknown\": 1,, }", "{\"name\":\"a\"} x", "'a'", "{\"name\":\"\u{1}\"}"] {
            assert_eq!(fault(body).0, 400, "{body}");
        }
    }

    #[test]
    fn the_field_at_fault_is_named_with_its_path() {
        for (body, field, part) in [
            ("{}", "name", "is missing"),
            (r#"{"name":null}"#, "name", "null"),
            (r#"{"name":1}"#, "name", "expected a string"),
            (r#"{"name":"a","name":"b"}"#, "name", "more than once"),
            (r#"{"name":"a","nam":"b"}"#, "nam", "known are name, lines"),
            (r#"{"name":"a","lines":{}}"#, "lines", "expected an array"),
            (r#"{"name":"a","lines":[7]}"#, "lines[0]", "expected an object"),
            (r#"{"name":"a","lines":[{"count":1},{}]}"#, "lines[1].count", "is missing"),
            (r#"{"name":"a","lines":[{"count":-1}]}"#, "lines[0].count", "whole number in range"),
            (r#"{"name":"a","lines":[{"count":1,"x":1}]}"#, "lines[0].x", "known are count, price"),
            (r#"{"name":"a","lines":[{"count":1,"count":1}]}"#, "lines[0].count", "more than once"),
            (
                r#"{"name":"a","lines":[{"count":1,"price":{"minor":1,"currency":"gbp"}}]}"#,
                "lines[0].price.currency",
                "three capital letters",
            ),
            (r#"{"name":"a","lines":[[7]]}"#, "lines[0]", "array, expected an object"),
            (r#"["a",[]]"#, "body", "array, expected an object"),
            ("null", "body", "expected an object"),
            ("7", "body", "expected an object"),
            (r#""text""#, "body", "expected an object"),
        ] {
            let (status, named, message) = fault(body);
            assert_eq!((status, named.as_str()), (422, field), "{body}: {message}");
            assert!(message.contains(part), "{body}: {message}");
        }
    }

    #[test]
    fn only_json_content_types_are_taken() {
        assert!(
            is_json("application/json") && is_json("Application/JSON") && is_json("application/merge+json")
        );
        assert!(!is_json("") && !is_json("text/plain") && !is_json("application/jsonp"));
    }
}
