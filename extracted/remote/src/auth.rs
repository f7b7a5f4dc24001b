//! The door of the private endpoints: a bearer token.
//!
//! Invariant: an empty token opens nothing, and how long a refusal takes tells nothing about the right one.

use actix_web::HttpRequest;
use actix_web::http::{StatusCode, header};
use platform::problem::Problem;
use platform::settings::Secret;
use subtle::ConstantTimeEq;

/// Refuses with 401 unless the request bears `token`.
pub(crate) fn authorize(request: &HttpRequest, token: &Secret) -> Result<(), Problem> {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    let expected = token.expose();
    let is_right = given.as_bytes().ct_eq(expected.as_bytes());
    if bool::from(is_right) && !expected.is_empty() {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNAUTHORIZED)
        .detail("this endpoint needs the bearer token of replication.token"))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn is_let_in(header: Option<&str>, token: &str) -> bool {
        let mut request = TestRequest::default();
        if let Some(value) = header {
            request = request.insert_header((header::AUTHORIZATION, value));
        }
        authorize(&request.to_http_request(), &Secret::new(token)).is_ok()
    }

    #[test]
    fn only_the_right_token_opens() {
        assert!(is_let_in(Some("Bearer s3cret"), "s3cret"));
        for header in [None, Some("Bearer "), Some("Bearer s3cre"), Some("Bearer s3crets"), Some("s3cret")] {
            assert!(!is_let_in(header, "s3cret"), "{header:?}");
        }
    }

    #[test]
    fn an_empty_token_opens_nothing() {
        assert!(!is_let_in(Some("Bearer "), ""));
        assert!(!is_let_in(None, ""));
    }
}
