//! Sagas: work over several contexts in steps, each of which can be undone, that survives the death of its process.
//!
//! Invariant: before a step runs it is written down that it does, and after it what became of it, with the saga's state. So
//! a step may run again, or be undone without having run, and must bear both; but none is forgotten.
//!
//! The way of a saga: its steps run in their order. One that is refused, or that failed too often, may have been done in
//! part, so it and all before it are undone, in reverse; undoing is tried for ever.

mod drive;
mod erased;
mod operator;
mod progress;
mod runner;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use async_trait::async_trait;
use contracts::{CallContext, Unavailable};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::schema::SchemaSource;

pub use erased::ErasedSaga;
pub use operator::{LogEntry, SagaCount, SagaFilter, SagaView, counts, find, list, purge, retry, show};
pub use progress::Phase;
pub use runner::{SagaHandle, SagaRunner, SagaSettings};
pub use store::begin;

/// The sagas and their log.
pub const SCHEMA: SchemaSource = SchemaSource {
    context: "sagas",
    migrations: &[crate::migration!("0001_sagas")],
    tables: &["banyan_saga_log", "banyan_sagas"],
};

/// One kind of saga.
#[async_trait]
pub trait Saga: Send + Sync + 'static {
    /// Its name: `checkout`.
    const KIND: &'static str;

    /// What it must know at its steps. Kept as JSON: a saga that an older version of the program began must be readable.
    type State: Serialize + DeserializeOwned + Clone + Send + Sync;

    /// The names of its steps, in their order. A saga under way knows its steps by their position, so a new version may
    /// only add some at the end.
    fn steps(&self) -> &'static [&'static str];

    /// Does a step. May come again after it was done. What it puts into the state is kept however it ends, but not when
    /// it outlives the deadline of `ctx`.
    async fn run(&self, step: &str, ctx: &CallContext, state: &mut Self::State) -> Result<(), StepError>;

    /// Takes a step back, whether it was done, in part, or not at all. May come again.
    async fn undo(&self, step: &str, ctx: &CallContext, state: &mut Self::State) -> Result<(), StepError>;
}

/// Why a step was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Trying again cannot help: the saga turns back. While undoing it is the same as [`StepError::Retry`].
    #[error("refused: {reason}")]
    Refused {
        /// Why, for the log of the saga and for the steps' undoing.
        reason: String,
    },
    /// Trying again may help.
    #[error("{reason}")]
    Retry {
        /// Why, for the log of the saga.
        reason: String,
    },
}

impl From<Unavailable> for StepError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Retry { reason: unavailable.to_string() }
    }
}

#[cfg(test)]
mod tests;
