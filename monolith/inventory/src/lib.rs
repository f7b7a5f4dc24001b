//! The inventory context: which units of a product lie in which warehouse, and which of them are promised to orders.
//!
//! Invariant: per product and warehouse `0 <= reserved <= on_hand`, and `reserved` is what the held reservations took there.

mod domain;
mod handlers;
mod schema;
mod service;
mod store;

pub use schema::SCHEMA;
pub use service::InventoryService;
