//! What an operator changes while a run goes on: a note beside the stream that the run reads again and again.
//!
//! Invariant: it is kept at the target, so it outlives the run and reaches every process of the stream.

use serde::{Deserialize, Serialize};

use crate::engine::Target;
use crate::error::MigrateError;

const NOTE: &str = "steering";

/// How a run is steered. What is not said is as the command line has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Steering {
    /// What rests.
    pub pause: Pause,
    /// Workers of the backfill.
    pub workers: Option<u32>,
    /// Rows per second that the backfill may copy.
    pub rows_per_second: Option<u64>,
    /// A query at the source whose first value is a load; `load_limit` is its limit.
    pub load_query: Option<String>,
    /// The load above which the backfill rests.
    pub load_limit: Option<f64>,
    /// Log rows above which the backfill rests, so that catch-up comes first.
    pub log_rows: Option<u64>,
}

/// What rests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pause {
    /// Nothing.
    #[default]
    None,
    /// Backfill; catch-up goes on.
    Backfill,
    /// Everything that writes to the target. The log at the source grows meanwhile.
    All,
}

impl Steering {
    /// Reads it.
    pub fn read<T: Target>(target: &mut T, stream: &str) -> Result<Self, MigrateError> {
        let Some(text) = target.note(stream, NOTE)? else { return Ok(Self::default()) };
        serde_json::from_str(&text).map_err(|error| {
            MigrateError::failed(format!("the note that steers the stream {stream} is damaged: {error}"))
        })
    }

    /// Why the backfill must rest whatever else there is.
    pub(super) fn paused(&self) -> Option<String> {
        (self.pause != Pause::None).then(|| "paused; `migrate resume` lets it go on".to_owned())
    }

    /// Refuses half a limit, which would limit nothing.
    pub fn check(&self) -> Result<(), MigrateError> {
        match (&self.load_query, self.load_limit) {
            (None, Some(limit)) => Err(MigrateError::Usage(format!(
                "a load limit of {limit} limits nothing without a query: say --load-query too"
            ))),
            (Some(query), None) => Err(MigrateError::Usage(format!(
                "the load query `{query}` limits nothing without a limit: say --load-limit too"
            ))),
            _ => Ok(()),
        }
    }

    /// Writes it. A run follows within a second.
    pub fn write<T: Target>(&self, target: &mut T, stream: &str) -> Result<(), MigrateError> {
        let text = serde_json::to_string(self).map_err(|error| MigrateError::failed(error.to_string()))?;
        target.set_note(stream, NOTE, Some(&text))
    }
}
