//! What a run says of itself, while it goes on and at its end.
//!
//! Invariant: ages are taken at the moment of saying, so that a note's own age must be added by whoever reads it later.

use serde::{Deserialize, Serialize};

use crate::engine::{Phase, Position};

/// A run while it goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// The machine it runs on.
    pub host: String,
    /// Its process there.
    pub process: u32,
    /// When this was said, in milliseconds since 1970.
    pub at_ms: i64,
    /// Where the stream stands.
    pub phase: Phase,
    /// Workers wanted.
    pub workers: u32,
    /// Rows that this run has copied.
    pub rows_copied: u64,
    /// Rows per second, since the run began.
    pub rows_per_second: u64,
    /// Whether all ranges are copied.
    pub copied: bool,
    /// Keys that catch-up has looked at.
    pub keys_caught: u64,
    /// Age of the snapshot that the target has reached: changes made since may be unseen. Nothing before the first batch.
    pub lag_ms: Option<u64>,
    /// Rows in the log.
    pub log_rows: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// What threads wait for, one line each.
    pub waits: Vec<String>,
    /// Why the backfill rests.
    pub brake: Option<String>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunReport {
    /// Rows copied by chunks.
    pub rows_copied: u64,
    /// Whether all ranges are copied.
    pub copied: bool,
    /// Whether it ended because nothing was left to do, and not because it was told to stop.
    pub ended: bool,
    /// Batches of catch-up.
    pub batches: u64,
    /// Keys that catch-up looked at.
    pub keys_caught: u64,
    /// Rows that it inserted, changed or removed.
    pub rows_caught: u64,
    /// Log rows removed.
    pub pruned: u64,
    /// The position that the last batch reached.
    pub position: Option<Position>,
    /// Age of that position.
    pub lag_ms: Option<u64>,
    /// How long it ran.
    pub duration_ms: u64,
}
