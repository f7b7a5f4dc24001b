//! Interim answers (RFC 9110 §15.2) on their way to the client.
//!
//! hyper has no way to send them. So the exchange leaves them here, and the client's stream writes them between two
//! flushes of hyper, when hyper holds nothing back.
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
    heads: Mutex<Vec<u8>>,
    task: AtomicWaker,
}

impl Relay {
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
