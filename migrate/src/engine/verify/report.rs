//! The verification report: what cut-over and operators go by.
//!
//! Invariant: every difference is counted, also where it is not listed; what a report says holds for its mapping and schema only.

use serde::{Deserialize, Serialize};

use super::Mode;
use crate::engine::driver::{Bound, Position, StreamRow};
use crate::engine::mapping::Stream;

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The stream.
    pub stream: String,
    /// What was compared.
    pub mode: Mode,
    /// Whether it came to its end.
    pub complete: bool,
    /// The target stood here when it began: no key that changed later is covered.
    pub position: Position,
    /// Hash of the mapping.
    pub mapping_hash: String,
    /// Fingerprint of the schema.
    pub fingerprint: String,
    /// The tables.
    pub tables: Vec<TableReport>,
    /// The first differences.
    pub differences: Vec<Difference>,
    /// Keys that moved each time they were looked at: nothing can be said of them.
    pub moving_keys: Vec<String>,
    /// Keys that catch-up had still to apply at the end.
    pub dirty_left: u64,
    /// When it began, in milliseconds since 1970.
    pub began_ms: i64,
    /// How long it took.
    pub duration_ms: u64,
}

/// One table of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableReport {
    /// The table filled.
    pub table: String,
    /// Rows that the mapping makes for it, as far as they were compared.
    pub rows: u64,
    /// Hash over the parts' sums at the source, in their order.
    pub hash: u64,
    /// Parts compared.
    pub parts: u64,
    /// Rows of both, with different values.
    pub differs: u64,
    /// Rows that the target lacks.
    pub missing: u64,
    /// Rows that only the target has.
    pub extra: u64,
    /// Keys that moved each time they were looked at.
    pub moving: u64,
}

/// What is wrong with a row, seen from the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Both have it, with different values.
    Differs,
    /// Only the source makes it.
    Missing,
    /// Only the target has it.
    Extra,
}

/// One row that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What is wrong.
    pub kind: Kind,
    /// The table filled.
    pub table: String,
    /// The source key, in the driver's text; empty for a row that carries none.
    pub key: String,
    /// The columns that differ; all of them for a row that is missing or too many, those of its own key if it carries no source key.
    pub columns: Vec<ColumnDifference>,
}

/// One column that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDifference {
    /// Its name.
    pub column: String,
    /// What the mapping makes of the source; nothing for NULL or no row.
    pub expected: Option<String>,
    /// What the target holds; nothing for NULL or no row.
    pub found: Option<String>,
    /// One of them is long and shown in part: its beginning, its length and a hash.
    #[serde(default)]
    pub cut: bool,
}

impl Difference {
    /// The row's key for a person: the source key, else its own key in the target.
    pub fn place(&self) -> String {
        if !self.key.is_empty() {
            return self.key.clone();
        }
        let own = self
            .columns
            .iter()
            .map(|column| format!("{} = {}", column.column, column.found.as_deref().unwrap_or("NULL")));
        format!("none ({})", own.collect::<Vec<_>>().join(", "))
    }
}

impl Report {
    pub(super) fn new(stream: &Stream, row: &StreamRow, mode: Mode) -> Self {
        let table = |mapping: &crate::engine::Mapping| TableReport {
            table: mapping.table.clone(),
            ..Default::default()
        };
        Self {
            stream: stream.name.clone(),
            mode,
            complete: false,
            position: row.pos.clone(),
            mapping_hash: row.mapping_hash.clone(),
            fingerprint: row.fingerprint.clone(),
            tables: stream.mappings.iter().map(table).collect(),
            differences: Vec::new(),
            moving_keys: Vec::new(),
            dirty_left: 0,
            began_ms: control::now_ms(),
            duration_ms: 0,
        }
    }

    /// Rows compared.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Rows that are not as they should be.
    pub fn wrong(&self) -> u64 {
        self.tables.iter().map(|table| table.differs + table.missing + table.extra).sum()
    }

    /// Keys of which nothing can be said.
    pub fn moving(&self) -> u64 {
        self.tables.iter().map(|table| table.moving).sum()
    }

    /// Whether it came to its end and found everything equal.
    pub fn is_clean(&self) -> bool {
        self.complete && self.wrong() == 0 && self.moving() == 0
    }

    /// Whether it still says something about a stream: not if mapping or schema changed since.
    pub fn is_valid_for(&self, row: &StreamRow) -> bool {
        self.mapping_hash == row.mapping_hash && self.fingerprint == row.fingerprint
    }

    /// The report in one line.
    pub fn evidence(&self) -> String {
        let sum = |count: fn(&TableReport) -> u64| self.tables.iter().map(count).sum::<u64>();
        let sample = match self.mode {
            Mode::Sample { percent, .. } => {
                format!(" (a sample of {percent} %, {} parts)", sum(|table| table.parts))
            }
            Mode::Full | Mode::Dirty => String::new(),
        };
        format!(
            "{}{} rows compared{sample} up to position {}: {} differ, {} missing, {} extra, {} moving (mapping {})",
            if self.complete { "" } else { "stopped early; " },
            self.rows(),
            self.position.0,
            sum(|table| table.differs),
            sum(|table| table.missing),
            sum(|table| table.extra),
            self.moving(),
            self.mapping_hash
        )
    }

    pub(super) fn add(&mut self, table: usize, difference: Difference, limit: usize) {
        if let Some(table) = self.tables.get_mut(table) {
            match difference.kind {
                Kind::Differs => table.differs += 1,
                Kind::Missing => table.missing += 1,
                Kind::Extra => table.extra += 1,
            }
        }
        if self.differences.len() < limit {
            self.differences.push(difference);
        }
    }

    /// The source keys of the listed differences of one table, each once.
    pub fn keys_of(&self, table: &str) -> Vec<Bound> {
        let listed = self.differences.iter().filter(|difference| difference.table == table);
        let keys: std::collections::BTreeSet<&str> =
            listed.map(|difference| difference.key.as_str()).filter(|key| !key.is_empty()).collect();
        keys.into_iter().map(|key| Bound(key.to_owned())).collect()
    }
}
