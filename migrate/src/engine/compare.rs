//! What verification asks of a database: sums of hashes per part of a table, and single rows where the sums differ.
//!
//! Invariant: both ends hash the same bytes for equal values and different bytes for different ones, whatever the column types
//! of the two tables are; the hash of a row mixes its columns, so that values exchanged between rows do not cancel out.

use serde::{Deserialize, Serialize};

use super::driver::{Batch, Bound, KeyRange, Position, Source, StreamRow, Target};
use super::mapping::{Mapping, Stream};
use crate::error::MigrateError;

/// A part of a mapping's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Keys of a range, where both ends order keys alike.
    Range(KeyRange),
    /// Keys whose hash modulo `of` is `index`, where they might not (text under a collation).
    Bucket {
        /// Which.
        index: u32,
        /// Of how many.
        of: u32,
    },
}

/// What a part holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Rows.
    pub rows: u64,
    /// The sum of the rows' hashes, modulo 2^64.
    pub hash: u64,
}

impl Sum {
    /// What it holds more than another one, modulo 2^64.
    pub fn minus(self, other: Self) -> Self {
        Self { rows: self.rows.wrapping_sub(other.rows), hash: self.hash.wrapping_sub(other.hash) }
    }
}

/// One row's hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowHash {
    /// The source key it belongs to.
    pub key: Bound,
    /// The hash of its mapped columns.
    pub hash: i64,
}

/// How much of each value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cells {
    /// All of it.
    Whole,
    /// Of one longer than [`CELL`] its beginning, its length and a hash, so that values which differ still look different.
    Cut,
}

/// Characters of a value that are shown.
pub const CELL: usize = 500;

/// Whether a value is shown in part.
pub fn is_cut(shown: &str) -> bool {
    shown.chars().nth(CELL).is_some()
}

/// One row as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownRow {
    /// The source key it belongs to.
    pub key: Bound,
    /// The mapped columns in their order, as text that differs if the values do; nothing for NULL.
    pub values: Vec<Option<String>>,
    /// About how much memory its values take as a whole.
    pub bytes: u64,
}

/// A table that a select reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRead {
    /// Its name: as the mapping names it as root or join, else as the database does.
    pub table: String,
    /// The columns that the select names.
    pub columns: Vec<String>,
}

/// The reading end, in the snapshot that [`Source::begin`] opened.
pub trait CompareSource: Source {
    /// Whether both ends order the mapping's keys alike, so that ranges of one are ranges of the other.
    fn orders_alike(&mut self, mapping: &Mapping) -> Result<bool, MigrateError>;
    /// Where a part of at most `rows` keys behind `after` may end; nothing if it is the last.
    fn part_end(
        &mut self,
        mapping: &Mapping,
        after: Option<&Bound>,
        rows: u32,
    ) -> Result<Option<Bound>, MigrateError> {
        self.range_end(mapping, &KeyRange { after: after.cloned(), up_to: None }, rows)
    }
    /// What the mapping makes of a part.
    fn sum(&mut self, mapping: &Mapping, part: &Part) -> Result<Sum, MigrateError>;
    /// The hash of every row that the mapping makes of a part.
    fn row_hashes(&mut self, mapping: &Mapping, part: &Part) -> Result<Vec<RowHash>, MigrateError>;
    /// The rows that the mapping makes of some keys, their cells cut.
    fn show(&mut self, mapping: &Mapping, keys: &[Bound]) -> Result<Vec<ShownRow>, MigrateError>;
    /// Those of the keys with a log row that `since` did not see: spelt as they were asked for, also where the log holds one that
    /// is equal to the source and reads otherwise.
    fn dirty_among(
        &mut self,
        mapping: &Mapping,
        since: &Position,
        keys: &[Bound],
    ) -> Result<Vec<Bound>, MigrateError>;
    /// The keys in the form in which rows pass.
    fn keys(&mut self, mapping: &Mapping, keys: &[Bound]) -> Result<Self::Rows, MigrateError>;
    /// Keys in that form as bounds.
    fn bounds(&mut self, mapping: &Mapping, keys: &Self::Rows) -> Result<Vec<Bound>, MigrateError>;
    /// The tables that the mapping's select reads, as the database understands it. To be asked outside of a snapshot.
    fn reads(&mut self, mapping: &Mapping) -> Result<Vec<TableRead>, MigrateError>;
    /// Up to `rows` keys behind `after` with a log row that `since` did not see, in one order, the same in every snapshot;
    /// nothing (`None`) if a whole table is dirty.
    fn dirty_keys(
        &mut self,
        _mapping: &Mapping,
        _since: &Position,
        _after: Option<&Bound>,
        _rows: u32,
    ) -> Result<Option<Vec<Bound>>, MigrateError> {
        Err(MigrateError::refused("this database's driver cannot list dirty keys", "verify everything"))
    }
}

/// The writing end, read.
pub trait CompareTarget: Target {
    /// Opens a snapshot and returns the stream's row in it.
    fn snapshot(&mut self, stream: &Stream) -> Result<Option<StreamRow>, MigrateError>;
    /// Ends the snapshot, if there is one.
    fn end_snapshot(&mut self) -> Result<(), MigrateError>;
    /// What the table holds of a part.
    fn sum(&mut self, mapping: &Mapping, part: &Part) -> Result<Sum, MigrateError>;
    /// The hash of every row that the table holds of a part.
    fn row_hashes(&mut self, mapping: &Mapping, part: &Part) -> Result<Vec<RowHash>, MigrateError>;
    /// The rows that the table holds of some keys.
    fn show(
        &mut self,
        mapping: &Mapping,
        keys: &[Bound],
        cells: Cells,
    ) -> Result<Vec<ShownRow>, MigrateError>;
    /// How many rows have no source key, or one that is NULL, so that they belong to nobody; and up to `most` of them, cut.
    fn rows_without_key(
        &mut self,
        mapping: &Mapping,
        most: u32,
    ) -> Result<(u64, Vec<ShownRow>), MigrateError>;
    /// What a forward mapping would make of this database's tables if what inverse mappings make of a range of its keys were
    /// written. Nothing is written but temporary tables.
    fn would_make(
        &mut self,
        forward: &Mapping,
        written: &[(&Mapping, Batch<Self::Rows>)],
        range: &KeyRange,
    ) -> Result<Vec<RowHash>, MigrateError>;
    /// Keeps the log behind a position until [`CompareTarget::drop_hold`]; a hold ends by itself after `seconds`.
    fn hold(
        &mut self,
        stream: &str,
        name: &str,
        position: &Position,
        seconds: u32,
    ) -> Result<(), MigrateError>;
    /// Ends a hold.
    fn drop_hold(&mut self, stream: &str, name: &str) -> Result<(), MigrateError>;
}
