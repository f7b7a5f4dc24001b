//! The database of one process, SQLite or PostgreSQL: connections, transactions, schema steps, and the dual-write contract.
//!
//! Invariant: every use of a connection is one transaction or one reading statement, a reader sees one snapshot per call,
//! and stores are written once for both databases; nothing here knows what a table of a context means.
//!
//! A store's functions take `&mut` [`Conn`]; a service calls them inside [`Db::read`], [`Db::read_one`] and [`Db::write`].
//! What a store must know of PostgreSQL's concurrency stands at [`Db`], what of diesel's limits at [`Conn`]. A schema step is
//! a folder of four files, see [`migration!`]. A test is written once and runs on both databases, see `on_both!` (feature `testing`).

mod backoff;
mod conn;
mod error;
mod fail_point;
mod liveness;
mod manager;
mod outage;
mod pool;
mod postgres;
mod purge;
mod settings;
mod sqlite;
mod together;
mod transaction;
mod turns;
mod wake;

pub mod events;
pub mod idempotency;
pub mod replication;
pub mod saga;
pub mod schema;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use conn::{Conn, MultiBackend};
pub use error::DbError;
pub use pool::{Backend, Db, Usage};
pub use settings::{DatabaseSettings, Synchronous};
