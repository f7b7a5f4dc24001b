//! How calls of a fake fail.
//!
//! Invariant: a mishap befalls one command, the next one; reading never fails.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::Unavailable;

/// How a command of a fake ends badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// Nothing is done, and nobody answers.
    Lost,
    /// It is done, and nobody answers.
    Unanswered,
    /// It is refused for good.
    Refused,
}

/// The mishaps that are to come.
#[derive(Debug, Default)]
pub(crate) struct Mishaps(Mutex<VecDeque<Mishap>>);

impl Mishaps {
    pub(crate) fn push(&self, mishap: Mishap) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(mishap);
    }

    /// Does the work of a command, unless the next mishap keeps it from being done or its answer from arriving.
    pub(crate) fn befall<T, E: From<Unavailable>>(
        &self,
        context: &str,
        refused: impl FnOnce(String) -> E,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let reason = "no answer came".to_owned();
        let silence = Unavailable { context: context.to_owned(), reason, maybe_done: true };
        let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match next {
            None => work(),
            Some(Mishap::Lost) => Err(silence.into()),
            Some(Mishap::Unanswered) => work().and(Err(silence.into())),
            Some(Mishap::Refused) => Err(refused("it was told to refuse".to_owned())),
        }
    }
}
