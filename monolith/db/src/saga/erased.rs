//! Sagas of any kind behind one trait object.
//!
//! Invariant: the state goes in and comes out as JSON, and what the step left of it comes out however the step ended.

use async_trait::async_trait;
use contracts::CallContext;

use super::{Saga, StepError};

/// Which way a step goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It is done.
    Run,
    /// It is taken back.
    Undo,
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Undo => "undo",
        }
    }
}

/// A saga whose state the runner need not know. Every [`Saga`] is one.
#[async_trait]
pub trait ErasedSaga: Send + Sync {
    /// [`Saga::KIND`].
    fn kind(&self) -> &'static str;

    /// [`Saga::steps`].
    fn step_names(&self) -> &'static [&'static str];

    /// [`Saga::run`] or [`Saga::undo`], with the state before it and, if it can be told, after it.
    async fn go(
        &self,
        way: Way,
        step: &str,
        ctx: &CallContext,
        state: &str,
    ) -> (Option<String>, Result<(), StepError>);
}

#[async_trait]
impl<S: Saga> ErasedSaga for S {
    fn kind(&self) -> &'static str {
        S::KIND
    }

    fn step_names(&self) -> &'static [&'static str] {
        self.steps()
    }

    async fn go(
        &self,
        way: Way,
        step: &str,
        ctx: &CallContext,
        state: &str,
    ) -> (Option<String>, Result<(), StepError>) {
        let mut state: S::State = match serde_json::from_str(state) {
            Ok(state) => state,
            Err(error) => return (None, Err(unreadable(&error))),
        };
        let ended = match way {
            Way::Run => self.run(step, ctx, &mut state).await,
            Way::Undo => self.undo(step, ctx, &mut state).await,
        };
        match serde_json::to_string(&state) {
            Ok(state) => (Some(state), ended),
            Err(error) => (None, Err(unreadable(&error))),
        }
    }
}

fn unreadable(error: &serde_json::Error) -> StepError {
    StepError::Retry { reason: format!("the saga's state is not what this program keeps: {error}") }
}
