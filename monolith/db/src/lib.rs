//! The SQLite database of one process: connections, transactions, schema steps, and the dual-write contract.
//!
//! Invariant: one connection writes, always inside `BEGIN IMMEDIATE`, and readers see one snapshot per call;
//! nothing here knows what a table of a context means.

mod error;
mod pool;
mod settings;

pub mod replication;
pub mod schema;

pub use error::DbError;
pub use pool::Db;
pub use settings::{DatabaseSettings, Synchronous};
