//! `Expect: 100-continue` (RFC 9110 §10.1.1): the client is told to send once the upstream asks.
//!
//! Invariant: a body that is waited for is not asked of the client before the upstream asked for it, or was silent for as
//! long as `limits.continue_ms`.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{EXPECT, HeaderValue};
use http::{StatusCode, Version, request};
use tokio::time::{Sleep, sleep};

use crate::answer::Refusal;
use crate::upload::Upload;

/// Refuses an expectation that nobody here knows how to meet, and forgets one that is none any more: without a body, of
/// HTTP/1.0, or over HTTP/2, where it is not waited upon. An upstream that got an unknown one could not be trusted to
/// refuse it, since most ignore it, and the client would take the answer for a promise kept.
pub(crate) fn settle(parts: &mut request::Parts, upload: Option<&Rc<Upload>>) -> Result<(), Refusal> {
    if !parts.headers.contains_key(EXPECT) {
        return Ok(());
    }
    let is_unknown =
        parts.version != Version::HTTP_10 && !parts.headers.get_all(EXPECT).iter().all(is_continue);
    if is_unknown {
        let detail = "the only expectation that this server meets is 100-continue";
        // Whoever expects something may wait for the answer before it sends its body, if it sends it at all.
        return Err(Refusal::new(StatusCode::EXPECTATION_FAILED, detail).closing());
    }
    if !upload.is_some_and(|upload| upload.is_awaited()) {
        parts.headers.remove(EXPECT);
    }
    Ok(())
}

/// A list may have empty elements (RFC 9110 §5.6.1.2).
fn is_continue(expectations: &HeaderValue) -> bool {
    let mut each = expectations.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    each.all(|one| one.is_empty() || one.eq_ignore_ascii_case(b"100-continue"))
}

/// Stands in front of a body that is waited for, until the upstream asks for it, or has been silent for a while.
#[derive(Debug)]
pub(crate) struct Gate(Pin<Box<Sleep>>);

impl Gate {
    pub(crate) fn new(wait: Duration) -> Self {
        Self(Box::pin(sleep(wait)))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}
