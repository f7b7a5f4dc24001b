//! Calls by pages of other origins (the Fetch standard's CORS protocol), only where origins are set.

use actix_cors::Cors;
use actix_web::http::Method;
use actix_web::http::Uri;
use actix_web::http::header::{self, HeaderName};
use actix_web::middleware::Condition;
use serde::{Deserialize, Deserializer, de};

/// Seconds for which a browser may remember what a preflight said.
const MAX_AGE_S: usize = 600;

const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Reads a list of origins and refuses what no browser would ever send as one.
pub(super) fn origins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let origins = Vec::<String>::deserialize(deserializer)?;
    match origins.iter().find(|origin| !is_origin(origin)) {
        None => Ok(origins),
        Some(origin) => Err(de::Error::custom(format!(
            "`{origin}` is no origin: write `*`, or scheme and host without a path, as in https://shop.example"
        ))),
    }
}

fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let is_web = text.starts_with("http://") || text.starts_with("https://");
    let is_bare = |uri: Uri| uri.authority().is_some_and(|host| text.ends_with(&format!("//{host}")));
    is_web && text.parse().is_ok_and(is_bare)
}

pub(super) fn layer(origins: &[String]) -> Condition<Cors> {
    let cors = Cors::default()
        .allowed_methods(METHODS)
        .allowed_headers([
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("traceparent"),
        ])
        .expose_headers([
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            HeaderName::from_static("x-request-id"),
        ])
        .max_age(MAX_AGE_S);
    let cors = if origins.iter().any(|origin| origin == "*") {
        cors.allow_any_origin().send_wildcard()
    } else {
        origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
    };
    Condition::new(!origins.is_empty(), cors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_browser_sends_is_an_origin() {
        for origin in ["*", "https://shop.example", "http://localhost:8080"] {
            assert!(is_origin(origin), "{origin}");
        }
        for text in
            ["", "shop.example", "https://shop.example/", "https://shop.example/a", "ftp://shop.example"]
        {
            assert!(!is_origin(text), "{text}");
        }
    }
}
