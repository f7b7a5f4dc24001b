//! The control store: flags with their fencing tokens, the switch of ownership, acknowledgements and the audit trail.
//!
//! Invariants:
//! * every change of a flag is one commit together with its audit row, and raises the flag's fencing token;
//! * a context has one owner at any time, and a switch changes it at one point of no doubt: [`ControlStore::flip`].

mod audit;
mod clock;
mod conn;
mod error;
mod file;
mod flag;
mod flags;
mod instances;
mod pins;
mod postgres;
mod records;
mod routing;
mod schema;
mod settings;
mod store;
mod switch;
mod transaction;
mod watcher;

#[cfg(test)]
mod tests;

pub use audit::{AuditRow, Who};
pub use clock::now_ms;
pub use error::ControlError;
pub use flag::{DataMode, Flag, Hold, Side, Stage, Weight, check_context_name};
pub use flags::FlagChange;
pub use instances::{Ack, Heartbeat, Instance, InstanceKind};
pub use pins::{MOST_PINS, Pin, Pins};
pub use records::{Lag, Verification};
pub use routing::{BUCKETS, bucket};
pub use settings::ControlSettings;
pub use store::ControlStore;
pub use watcher::{Vitals, Watcher};
