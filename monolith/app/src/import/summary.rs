//! What an import did, in figures.
//!
//! Invariant: `lines = imported + unchanged + rejected`, and `rejected` is the sum over its reasons. The header is
//! not among the lines.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ImportError;
use super::reject::Reason;
use super::store::Stored;

/// The figures of one import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// What was read.
    pub file: String,
    /// Where the rejected lines are.
    pub rejects_file: String,
    /// Lines below the header.
    pub lines: u64,
    /// Lines of invoices that were stored now.
    pub imported: u64,
    /// Lines of invoices that were there already.
    pub unchanged: u64,
    /// Lines in the rejects file.
    pub rejected: u64,
    /// The same by reason.
    pub rejected_by_reason: BTreeMap<&'static str, u64>,
    /// Users added.
    pub users_added: u64,
    /// Products added.
    pub products_added: u64,
    /// Sales added.
    pub orders_added: u64,
    /// Cancellations added.
    pub cancellations_added: u64,
}

impl Summary {
    pub(super) fn new(file: String, rejects_file: String) -> Self {
        Self {
            file,
            rejects_file,
            lines: 0,
            imported: 0,
            unchanged: 0,
            rejected: 0,
            rejected_by_reason: BTreeMap::new(),
            users_added: 0,
            products_added: 0,
            orders_added: 0,
            cancellations_added: 0,
        }
    }

    pub(super) fn add(&mut self, stored: &Stored) {
        self.imported += stored.imported;
        self.unchanged += stored.unchanged;
        for reject in &stored.rejects {
            self.rejected += 1;
            *self.rejected_by_reason.entry(Reason::as_str(reject.reason)).or_default() += 1;
        }
        self.users_added += stored.users;
        self.products_added += stored.products;
        self.orders_added += stored.orders;
        self.cancellations_added += stored.cancellations;
    }

    /// Lines accounted for up to now.
    pub(super) fn booked(&self) -> u64 {
        self.imported + self.unchanged + self.rejected
    }

    /// Closes the books against the number of lines that were read.
    pub(super) fn balance(mut self, lines: u64) -> Result<Self, ImportError> {
        let booked = self.booked();
        self.lines = lines;
        if booked == lines { Ok(self) } else { Err(ImportError::Books { lines, booked }) }
    }

    /// The figures as rows of a table, in reading order.
    pub fn rows(&self) -> Vec<[String; 2]> {
        let row = |name: &str, count: u64| [name.to_owned(), count.to_string()];
        let mut rows = vec![
            row("lines", self.lines),
            row("imported", self.imported),
            row("unchanged", self.unchanged),
            row("rejected", self.rejected),
        ];
        rows.extend(
            self.rejected_by_reason.iter().map(|(reason, count)| row(&format!("  {reason}"), *count)),
        );
        rows.extend([
            row("users added", self.users_added),
            row("products added", self.products_added),
            row("orders added", self.orders_added),
            row("cancellations added", self.cancellations_added),
        ]);
        rows
    }
}
