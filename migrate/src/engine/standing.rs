//! What a driver tells of its database for people to read: capture, chunks under way, tables as they are declared.
//!
//! Invariant: nothing here decides what is copied.

use serde::Serialize;

/// Rows of a log that are counted; of a larger one it is only told about how many there are.
pub const LOG_COUNTED: u64 = 100_000;

/// A log's rows for a person.
pub fn log_rows(rows: u64) -> String {
    if rows > LOG_COUNTED { format!("about {rows} rows") } else { format!("{rows} rows") }
}

/// How much of capture stands in a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CaptureState {
    /// Some of it is there.
    pub installed: bool,
    /// What is missing or changed, one line each; empty while nothing is installed.
    pub faults: Vec<String>,
}

impl CaptureState {
    /// The fault of a log that reached its bound; `of` is whose log it is.
    pub fn full(of: &str) -> String {
        format!(
            "the log of {of} held more than run.max_log_rows, so capture ended by itself before the source's disk was full"
        )
    }
}

/// A chunk under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaseState {
    /// Position of the mapping in the stream.
    pub mapping: usize,
    /// The chunk's number.
    pub chunk: i64,
    /// Seconds until another worker may take it; negative once one may.
    pub seconds_left: i64,
}

/// A table as its database declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableShape {
    /// Its name, with its schema where that is not the default one.
    pub name: String,
    /// Its columns.
    pub columns: Vec<ColumnShape>,
    /// Its primary key, else the first unique key without NULL; empty: it has none.
    pub key: Vec<String>,
}

/// A column as its database declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnShape {
    /// Its name.
    pub name: String,
    /// Its declared type.
    pub declared: String,
    /// The database computes it, so it is not copied.
    pub generated: bool,
}

/// What a backfill has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunksLeft {
    /// Chunks leased and not done.
    pub leased: u64,
    /// All ranges of all mappings are done.
    pub done: bool,
    /// Rows of the chunks done.
    pub rows: u64,
}
