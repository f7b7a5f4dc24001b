//! What the contexts promise each other: per context one module with its port, its data and its errors;
//! beside them the shared kernel of ids, money and time.
//!
//! Invariant: no I/O and no knowledge of how a call travels. Every port could be served by another process.

mod call;
mod clock;
mod ids;
mod money;
mod text;

pub mod cart;
pub mod catalog;
pub mod events;
pub mod idempotency;
pub mod inventory;
pub mod orders;
pub mod payments;
pub mod port;
pub mod replication;
pub mod shipping;
#[cfg(feature = "suite")]
pub mod suite;
pub mod users;

pub use call::{CallContext, RequestId, Unavailable};
pub use clock::{Clock, FixedClock, SystemClock, Timestamp};
pub use idempotency::{IdempotencyKey, KeyReused};
pub use ids::{CartId, CartIdError, CategoryId, IdError, OrderId, ProductId, UserId, WarehouseId};
pub use money::{Currency, Money, MoneyError};
#[cfg(feature = "schema")]
pub use text::PATTERN as TEXT;

/// One page of a listing in ascending order of id.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Page<T> {
    /// The items, at most as many as were asked for.
    pub items: Vec<T>,
    /// Whether items follow the last one here.
    pub more: bool,
}

/// A value that broke a rule of its field, found while parsing at the edge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// The field as the client wrote it, with a path where it is nested: `addresses[0].country`.
    pub field: String,
    /// What is wrong with it, in words that say what would be right.
    pub message: String,
}

impl FieldError {
    /// Names the field and what is wrong with it.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}
