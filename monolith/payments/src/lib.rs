//! The payments context: per order one payment, through a payment provider or on account.
//!
//! Invariant: the provider is asked outside of any transaction, and only after the row that says under which key was
//! committed. So whatever dies, the row tells where to look for what the provider has done.

mod domain;
mod handlers;
mod schema;
mod service;
mod store;

pub use schema::SCHEMA;
pub use service::PaymentsService;
