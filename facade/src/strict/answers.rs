//! What an upstream's answer may look like once hyper has parsed it (RFC 9110 §15, RFC 9112 §6.3).
//!
//! Invariant: an answer that passes has a status and one framing; a client's reader and ours agree on its end.

use http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use http::response;

use crate::strict::grammar;

/// What lies beyond is to be taken for a failure of the server (RFC 9110 §15).
const HIGHEST_STATUS: u16 = 599;

/// Why an answer is none.
pub(crate) fn check(parts: &response::Parts) -> Result<(), &'static str> {
    if parts.status.as_u16() > HIGHEST_STATUS {
        return Err("its answer's status is beyond 599");
    }
    let length = single(&parts.headers)?;
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if length {
        return Err("its answer has a Content-Length beside a Transfer-Encoding");
    }
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err("its answer has a transfer coding other than chunked");
    }
    Ok(())
}

/// Whether there is a length, of which there is one at most, and a number.
fn single(headers: &HeaderMap) -> Result<bool, &'static str> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(false) };
    if lengths.next().is_some() {
        return Err("its answer has more than one Content-Length");
    }
    match grammar::length(length.as_bytes()) {
        Some(_) => Ok(true),
        None => Err("its answer's Content-Length is not a number"),
    }
}
