//! The shipping context: one shipment per order, from its schedule to the buyer's door.
//!
//! Invariant: a shipment only moves forward, and what was stopped is never handed over.

mod domain;
mod handlers;
mod schema;
mod service;
mod store;

pub use schema::SCHEMA;
pub use service::ShippingService;
