//! The outcome of a backfill.
//!
//! Invariant: `done` means that every key is copied; what is refused is listed, never dropped.

use serde::Serialize;

/// What a backfill did.
#[derive(Debug, Clone, Serialize)]
pub struct BackfillReport {
    /// Which context.
    pub context: String,
    /// The side that was filled.
    pub filled: control::Side,
    /// Whether every key is copied.
    pub done: bool,
    /// Whether it went on from an earlier run.
    pub resumed: bool,
    /// Keys that this run wrote, those of waiting images and removals among them.
    pub keys_copied: u64,
    /// Rows that this run wrote, over all tables.
    pub rows_copied: u64,
    /// Chunks that this run committed.
    pub chunks: u64,
    /// Keys that could not be stored.
    pub refused: Vec<RefusedKey>,
    /// Milliseconds it took.
    pub duration_ms: u64,
    /// Keys per second.
    pub keys_per_second: u64,
}

/// A key that could not be stored.
#[derive(Debug, Clone, Serialize)]
pub struct RefusedKey {
    /// The key.
    pub key: String,
    /// What the database said, and which row is in the way.
    pub reason: String,
}
