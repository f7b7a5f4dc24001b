//! Entity tags: by what a client says which state of a resource it has seen.
//!
//! Invariant: a tag is the version of what it stands for, in quotes; it is strong, since equal versions have equal bytes.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpRequest, HttpResponse};
use platform::problem::Problem;
use serde::Serialize;

use crate::answer::bad_header;

/// The version that a change expects: of `If-Match`, where it was sent and is not `*`.
pub(crate) fn expected(request: &HttpRequest) -> Result<Option<i64>, Problem> {
    let Some(text) = single(request, &header::IF_MATCH, "If-Match")? else { return Ok(None) };
    match text {
        "*" => Ok(None),
        text => parse(text).map(Some).ok_or_else(|| {
            bad_header(
                "If-Match",
                "is not an ETag of this resource; send the one that a read has answered, or `*`",
            )
        }),
    }
}

/// 200 with the document, or 304 where `If-None-Match` names this version.
pub(crate) fn tagged(
    request: &HttpRequest,
    version: i64,
    document: &impl Serialize,
) -> Result<HttpResponse, Problem> {
    let tag = tag(version);
    let seen = single(request, &header::IF_NONE_MATCH, "If-None-Match")?;
    let is_known = seen.is_some_and(|seen| {
        seen == "*" || seen.split(',').any(|part| part.trim().trim_start_matches("W/") == tag)
    });
    if is_known && matches!(request.method().as_str(), "GET" | "HEAD") {
        return Ok(HttpResponse::NotModified().insert_header((header::ETAG, tag)).finish());
    }
    Ok(HttpResponse::Ok().insert_header((header::ETAG, tag)).json(document))
}

/// The tag of a version.
pub(crate) fn tag(version: i64) -> String {
    format!("\"{version}\"")
}

/// 412 for a resource that was changed since.
pub(crate) fn changed(detail: String) -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED)
        .detail(format!("{detail}; read it again"))
        .field("If-Match", "is not its ETag now")
}

fn parse(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('"')?.strip_suffix('"')?;
    digits.parse::<i64>().ok().filter(|version| *version >= 0 && version.to_string() == digits)
}

/// A header that may stand there once.
pub(crate) fn single<'a>(
    request: &'a HttpRequest,
    name: &HeaderName,
    shown: &str,
) -> Result<Option<&'a str>, Problem> {
    let mut values = request.headers().get_all(name);
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad_header(shown, "stands there more than once"));
    }
    first.to_str().map(Some).map_err(|_| bad_header(shown, "must be visible ASCII"))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_a_tag_of_ours_is_a_version() {
        assert_eq!(parse("\"7\""), Some(7));
        for text in ["7", "W/\"7\"", "\"07\"", "\"-1\"", "\"x\"", "\"7\", \"8\"", ""] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_version_that_is_known_is_not_sent_again() {
        let status = |tags: &str| {
            let request = TestRequest::get().insert_header(("if-none-match", tags)).to_http_request();
            tagged(&request, 7, &"x").unwrap().status().as_u16()
        };
        for tags in ["\"7\"", "W/\"7\"", "\"6\", \"7\"", "*"] {
            assert_eq!(status(tags), 304, "{tags}");
        }
        assert_eq!(status("\"8\""), 200);
    }
}
