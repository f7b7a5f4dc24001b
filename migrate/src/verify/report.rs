//! The outcome of a comparison.
//!
//! Invariant: every difference is counted; only the first ones are listed.

use control::Side;
use rusqlite::types::Value;
use serde::Serialize;

use crate::extraction::Extraction;
use crate::manifest::TableMap;
use crate::sqlite::show;

/// What is wrong with a row, seen from the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Both sides have it, with different values.
    Differs,
    /// Only the owner has it.
    Missing,
    /// Only the other side has it.
    Extra,
}

/// One row that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What is wrong.
    pub kind: Kind,
    /// The table whose row it is; a table of the monolith means that the way back would not give the row back.
    pub table: String,
    /// The row's key.
    pub key: Vec<String>,
    /// The columns that differ.
    pub columns: Vec<ColumnDifference>,
}

/// One column that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnDifference {
    /// Its name.
    pub column: String,
    /// What the monolith's data says.
    pub monolith: String,
    /// What the service's data says.
    pub service: String,
}

/// The outcome of a comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Which context.
    pub context: String,
    /// Who owned it.
    pub owner: Side,
    /// The owner's version counter before the comparison; later versions are not covered.
    pub position: i64,
    /// Hash of the mapping.
    pub mapping_hash: String,
    /// Keys at the owner.
    pub keys: u64,
    /// Rows compared, in both directions.
    pub rows: u64,
    /// Rows with different values.
    pub differs: u64,
    /// Rows that only the owner has.
    pub missing: u64,
    /// Rows that only the other side has.
    pub extra: u64,
    /// Keys that moved each time they were looked at, so that nothing can be said of them.
    pub moving: u64,
    /// The first of them.
    pub moving_keys: Vec<String>,
    /// The first differences.
    pub listed: Vec<Difference>,
    /// Milliseconds it took.
    pub duration_ms: u64,
    #[serde(skip)]
    limit: usize,
}

impl Report {
    pub(crate) fn new(extraction: &Extraction, owner: Side, position: i64, limit: usize) -> Self {
        Self {
            context: extraction.context().to_owned(),
            owner,
            position,
            mapping_hash: extraction.manifest.hash(),
            keys: 0,
            rows: 0,
            differs: 0,
            missing: 0,
            extra: 0,
            moving: 0,
            moving_keys: Vec::new(),
            listed: Vec::new(),
            duration_ms: 0,
            limit,
        }
    }

    /// How many rows are not as they should be.
    pub fn differences(&self) -> u64 {
        self.differs + self.missing + self.extra
    }

    /// Whether both sides are equal.
    pub fn clean(&self) -> bool {
        self.differences() == 0 && self.moving == 0
    }

    /// The report in one line.
    pub fn evidence(&self) -> String {
        format!(
            "{} rows of {} keys compared up to version {}: {} differ, {} missing, {} extra, {} moving (mapping {})",
            self.rows,
            self.keys,
            self.position,
            self.differs,
            self.missing,
            self.extra,
            self.moving,
            self.mapping_hash
        )
    }

    pub(crate) fn add(&mut self, difference: Difference) {
        match difference.kind {
            Kind::Differs => self.differs += 1,
            Kind::Missing => self.missing += 1,
            Kind::Extra => self.extra += 1,
        }
        if self.listed.len() < self.limit {
            self.listed.push(difference);
        }
    }

    /// Rows without a key belong to nobody: at the owner they cannot be copied, at the other side nobody put them.
    pub(crate) fn add_rows_without_key(&mut self, map: &TableMap, at_owner: bool, count: u64) {
        let kind = if at_owner { Kind::Missing } else { Kind::Extra };
        for _ in 0..count {
            let key = vec![show(&Value::Null)];
            self.add(Difference { kind, table: map.table.clone(), key, columns: Vec::new() });
        }
    }
}
