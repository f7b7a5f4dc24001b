//! The SQLite driver: one connection per end, each with its file attached under the name that manifests use.
//!
//! Invariants: the end that is read is attached read-only, so no mistake in a mapping can touch it; everything written
//! to it (log, triggers, heartbeats) goes through a connection of its own, in short transactions.
//!
//! Durability: see the implementation of `persist_snapshot`.

mod apply;
mod bookkeeping;
mod capture;
mod catalog;
mod chunks;
mod collation;
mod collisions;
mod comparing;
mod connection;
mod fault;
mod index_text;
mod known;
mod likeness;
mod loading;
mod log;
mod notes;
mod place;
mod reads;
mod rehearsal;
mod resting;
mod rows;
mod source;
mod sql;
mod staged;
mod survey;
mod target;
mod triggers;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use rows::SqliteRows;
pub use source::SqliteSource;
pub use target::SqliteTarget;

use crate::engine::Driver;
use crate::error::MigrateError;

/// Two SQLite files.
#[derive(Debug, Clone)]
pub struct SqliteDriver {
    source: PathBuf,
    target: PathBuf,
    names: Names,
    options: SqliteOptions,
}

/// How the driver's connections behave.
#[derive(Debug, Clone, Copy)]
pub struct SqliteOptions {
    /// How long a lock is waited for, before the engine is told to try again.
    pub patience: Duration,
    /// What a power failure may take back.
    pub durability: Durability,
}

/// What a power failure may take back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that the engine relies on.
    Kept,
    /// Everything: for tests that no power failure can hurt.
    Forgotten,
}

/// Under which names selects see the files.
#[derive(Debug, Clone, Copy)]
struct Names {
    source: &'static str,
    target: &'static str,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { patience: Duration::from_secs(5), durability: Durability::Kept }
    }
}

impl SqliteDriver {
    /// Copies from `source` to `target`; selects say `source.item`.
    pub fn new(source: &Path, target: &Path, options: SqliteOptions) -> Self {
        let names = Names { source: "source", target: "target" };
        Self { source: source.to_owned(), target: target.to_owned(), names, options }
    }

    /// The same, waiting for locks at most so long.
    pub fn waiting(mut self, patience: Duration) -> Self {
        self.options.patience = patience;
        self
    }

    /// The way back: copies from the service's file to the monolith's; the inverse selects say `target.item`, as the
    /// manifest calls the service's database, whichever end it is now.
    pub fn back(self) -> Self {
        let names = Names { source: self.names.target, target: self.names.source };
        Self { source: self.target, target: self.source, names, options: self.options }
    }
}

impl Driver for SqliteDriver {
    type Rows = SqliteRows;
    type Source = SqliteSource;
    type Target = SqliteTarget;

    fn source(&self) -> Result<SqliteSource, MigrateError> {
        SqliteSource::open(&self.source, self.names.source, self.options)
    }

    fn target(&self) -> Result<SqliteTarget, MigrateError> {
        SqliteTarget::open(&self.target, self.names.target, &self.source, self.options)
    }

    fn reversed(&self) -> Self {
        self.clone().back()
    }
}
