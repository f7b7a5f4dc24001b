//! Our own reading of what arrives: requests, before hyper's parser, and answers of upstreams, which no library parses.
//!
//! hyper is made to get along with many peers; a proxy must be sure that the next server reads the same messages. So
//! every head and every piece of chunked framing is read here first, by RFC 9112 to the letter, and hyper gets only
//! what passed. What does not pass is answered like any other refusal: hyper gets a stand-in request in its place,
//! which `admit` turns into problem+json, in its turn behind the answers of the requests before it.
//!
//! Invariant: no byte of a request reaches hyper before the unit that it belongs to (a head, a chunk's size line, a
//! trailer line) is complete and has passed; behind a refusal nothing more is read as HTTP.

pub(crate) mod answers;
mod asked;
pub(crate) mod chunks;
pub(crate) mod grammar;

mod guarded;
mod head;
pub(crate) mod http2;
mod relay;
mod scanner;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use futures_util::task::AtomicWaker;
use http::StatusCode;
use http::uri::Uri;

pub(crate) use asked::Asked;
pub(crate) use guarded::Guarded;

use crate::answer::Refusal;
use relay::Relay;

/// The target of the stand-in. No client can send it: a target of this form is refused here.
const STAND_IN: &str = "refused";

/// Sizes beyond which a head is refused, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Of the request target.
    pub(crate) target: usize,
    /// Of the whole head; each trailer section and the size lines of each body have as much.
    pub(crate) head: usize,
    /// Header lines; hyper's own limit must not be lower.
    pub(crate) fields: usize,
}

#[cfg(test)]
impl Default for Limits {
    fn default() -> Self {
        Self { target: 8 * 1024, head: 64 * 1024, fields: 100 }
    }
}

/// Why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) detail: &'static str,
}

impl Fault {
    pub(crate) const fn bad(detail: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, detail }
    }

    pub(crate) const fn with(status: StatusCode, detail: &'static str) -> Self {
        Self { status, detail }
    }

    pub(crate) fn refusal(self) -> Refusal {
        Refusal::new(self.status, self.detail).closing()
    }
}

/// What the bytes of a request's head are refused for, if they are.
pub(crate) fn check_head(head: &[u8], limits: Limits) -> Result<(), Fault> {
    match scanner::Scanner::new(limits).scan(head).1 {
        Some(scanner::Stop::Head { fault, .. } | scanner::Stop::Body(fault)) => Err(fault),
        Some(scanner::Stop::Upgrade) | None => Ok(()),
    }
}

fn is_stand_in(uri: &Uri) -> bool {
    uri.scheme().is_none() && uri.authority().is_some_and(|authority| authority == STAND_IN)
}

/// What a guarded connection and the answering of its requests tell each other. Both are on one thread; it is shared
/// by means that other threads could use because hyper hands upgraded streams on only if they could go to another.
#[derive(Debug, Default)]
pub(crate) struct Door {
    /// Boxed, because idle connections keep their door.
    fault: OnceLock<Box<(Fault, Asked)>>,
    /// Answers whose head is decided.
    answers: AtomicU64,
    upgraded: AtomicBool,
    /// A reader waits for the answer to a request to upgrade.
    is_waiting: AtomicBool,
    reader: AtomicWaker,
    /// Interim answers for the client.
    pub(crate) hints: Relay,
}

impl Door {
    /// The refusal that a request stands in for.
    pub(crate) fn refusal(&self, uri: &Uri) -> Option<Refusal> {
        let (fault, _) = self.fault.get()?.as_ref();
        is_stand_in(uri).then(|| fault.refusal())
    }

    /// What could be read of the request that was refused.
    pub(crate) fn asked(&self, uri: &Uri) -> Option<&Asked> {
        let (_, asked) = self.fault.get()?.as_ref();
        is_stand_in(uri).then_some(asked)
    }

    /// To be told of every answer: after an upgrade the bytes are no longer HTTP.
    pub(crate) fn answered(&self, status: StatusCode) {
        self.answers.store(self.answers.load(Relaxed).wrapping_add(1), Relaxed);
        if status == StatusCode::SWITCHING_PROTOCOLS {
            self.upgraded.store(true, Relaxed);
        }
        if self.is_waiting.load(Relaxed) {
            self.is_waiting.store(false, Relaxed);
            self.reader.wake();
        }
    }
}
