//! What an HTTP/2 request must not say although hyper lets it (RFC 9113 §8.2, §8.3), once it has HTTP/1.1's shape.
//!
//! Invariant: what passes is written to an upstream as one request, which reads it as we do.

use http::header::{CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING};
use http::{StatusCode, request};

use crate::strict::{Fault, grammar};

pub(crate) fn check(parts: &request::Parts) -> Result<(), Fault> {
    if !grammar::is_usual_method(parts.method.as_str().as_bytes()) {
        return Err(Fault::with(StatusCode::NOT_IMPLEMENTED, "this server does not serve the method"));
    }
    target(parts)?;
    fields(&parts.headers)?;
    content_length(&parts.headers)
}

fn target(parts: &request::Parts) -> Result<(), Fault> {
    let Some(target) = parts.uri.path_and_query().map(|target| target.as_str().as_bytes()) else {
        return Ok(());
    };
    if !matches!(target, [b'/', ..] | b"*") {
        return Err(Fault::bad("the path does not begin with a slash"));
    }
    match grammar::is_path_and_query(target) {
        true => Ok(()),
        false => Err(Fault::bad("the path has a character that must be percent-encoded, or a broken escape")),
    }
}

/// Whether trailers say nothing of how the message is framed or routed, and are well-formed.
pub(crate) fn are_sound(trailers: &HeaderMap) -> bool {
    let framing = [CONTENT_LENGTH, TRANSFER_ENCODING, HOST];
    fields(trailers).is_ok() && !framing.iter().any(|name| trailers.contains_key(name))
}

/// hyper has looked at the characters of values, but not for whitespace around them (RFC 9113 §8.2.1), and at those of
/// names, but lets a quotation mark pass.
fn fields(headers: &HeaderMap) -> Result<(), Fault> {
    for (name, value) in headers {
        if !grammar::is_token(name.as_str().as_bytes()) {
            return Err(Fault::bad("a header's name is not a word"));
        }
        if let [b' ' | b'\t', ..] | [.., b' ' | b'\t'] = value.as_bytes() {
            return Err(Fault::bad("a header's value begins or ends with a space"));
        }
        if grammar::looks_like_framing(name.as_str().as_bytes()) {
            return Err(Fault::bad("a header could be taken for Content-Length or Transfer-Encoding"));
        }
    }
    Ok(())
}

/// hyper counts the body against the first one only, and passes all of them on.
fn content_length(headers: &HeaderMap) -> Result<(), Fault> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    if lengths.next().is_some() {
        return Err(Fault::bad("there is more than one header Content-Length"));
    }
    match grammar::length(length.as_bytes()) {
        Some(_) => Ok(()),
        None => Err(Fault::bad("the header Content-Length is not a number")),
    }
}
