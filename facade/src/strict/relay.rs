//! Interim answers (RFC 9110 §15.2) on their way from an upstream's connection to the client's.
//!
//! hyper passes them to nobody, on either side. So the upstream's stream copies them out as they come by, the exchange
//! takes them over, and the client's stream writes them between two flushes of hyper, when hyper holds nothing back.
//!
//! Invariant: an interim answer stands before the head of its final one and behind the last byte of the answer before.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;

/// Bytes that wait to be passed on; more are dropped, since whoever sends so many hints means no good.
const MOST_WAITING: usize = 16 * 1024;

/// Heads of interim answers in one direction, from the one who finds them to the one who takes them.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    /// The only thing that is looked at as long as there are none.
    is_filled: AtomicBool,
    /// A request is about to be sent.
    begins: AtomicBool,
    heads: Mutex<Vec<u8>>,
    task: AtomicWaker,
}

impl Relay {
    /// Says that what the upstream sends next is the head of an answer.
    pub(crate) fn begin(&self) {
        self.begins.store(true, Relaxed);
    }

    /// Whether an exchange has begun since this was asked last.
    pub(crate) fn has_begun(&self) -> bool {
        let has_begun = self.begins.load(Relaxed);
        if has_begun {
            self.begins.store(false, Relaxed);
        }
        has_begun
    }

    pub(crate) fn is_filled(&self) -> bool {
        self.is_filled.load(Relaxed)
    }

    /// Leaves heads for the other side, and wakes it.
    pub(crate) fn put(&self, heads: &[u8]) {
        let mut waiting = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() + heads.len() <= MOST_WAITING {
            waiting.extend_from_slice(heads);
            self.is_filled.store(true, Relaxed);
            self.task.wake();
        }
    }

    /// What waits. It counts as filled until it is said to be empty.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.heads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was taken is where it belongs.
    pub(crate) fn emptied(&self) {
        self.is_filled.store(false, Relaxed);
        self.task.wake();
    }

    /// Whose task is woken when it is filled, or emptied.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
    }
}
