//! Reading no more bytes than there is room for.
//!
//! Invariant: who is told that it is too much asks for fewer keys; only the rows of a single key are read whatever they hold.

use super::driver::Batch;

/// What was asked for holds more bytes than it may; so many rows of it did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuch {
    /// Rows.
    pub rows: u64,
}

/// A batch of no more bytes than asked for, or why there is none.
pub type Bounded<R> = Result<Batch<R>, TooMuch>;
