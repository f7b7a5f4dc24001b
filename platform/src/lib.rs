//! What every process of ours shares: settings, logs, metrics, HTTP serving with health checks, problem details, tables.
//!
//! Invariant: knows no shop, no flag and no database.

pub mod error;
pub mod http;
pub mod metrics;
pub mod problem;
mod question;
mod random;
pub mod settings;
pub mod table;
pub mod telemetry;
