//! Our own reading of what arrives, before hyper's parser (requests) and behind it (answers of upstreams).
//!
//! hyper is made to get along with many peers; a proxy must be sure that the next server reads the same messages. So
//! every head and every piece of chunked framing is read here first, by RFC 9112 to the letter, and hyper gets only
//! what passed. What does not pass is answered like any other refusal: hyper gets a stand-in request in its place,
//! which `admit` turns into problem+json, in its turn behind the answers of the requests before it.
//!
//! Invariant: no byte of a request reaches hyper before the unit that it belongs to (a head, a chunk's size line, a
//! trailer line) is complete and has passed; behind a refusal nothing more is read as HTTP.

pub(crate) mod answers;
pub(crate) mod grammar;

mod guarded;
mod head;
mod scanner;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use http::StatusCode;
use http::uri::Uri;

pub(crate) use guarded::Guarded;

use crate::answer::Refusal;

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

/// What a guarded connection and the answering of its requests tell each other.
#[derive(Debug, Default)]
pub(crate) struct Door {
    fault: Cell<Option<Fault>>,
    /// Answers whose head is decided.
    answers: Cell<u64>,
    upgraded: Cell<bool>,
    /// Of a reader that waits for the answer to a request to upgrade.
    waiting: RefCell<Option<Waker>>,
}

impl Door {
    /// The refusal that a request stands in for.
    pub(crate) fn refusal(&self, uri: &Uri) -> Option<Refusal> {
        let fault = self.fault.get()?;
        (uri.authority()? == STAND_IN).then(|| fault.refusal())
    }

    /// To be told of every answer: after an upgrade the bytes are no longer HTTP.
    pub(crate) fn answered(&self, status: StatusCode) {
        self.answers.set(self.answers.get().wrapping_add(1));
        if status == StatusCode::SWITCHING_PROTOCOLS {
            self.upgraded.set(true);
        }
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// Puts the check in front of an HTTP/1 connection.
pub(crate) fn guard<S>(stream: S, limits: Limits) -> (Guarded<S>, Rc<Door>) {
    let door = Rc::new(Door::default());
    (Guarded::new(stream, limits, Rc::clone(&door)), door)
}
