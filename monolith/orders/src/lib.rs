//! The orders context: what users bought at which price, placed here or brought in from elsewhere.
//!
//! Invariant: an order keeps the prices of its moment; other contexts are asked through their ports, never read from their
//! tables, and never while a transaction is open.

mod checkout;
mod domain;
mod handlers;
mod schema;
mod service;
mod store;

pub use checkout::Checkout;
pub use schema::SCHEMA;
pub use service::OrdersService;
