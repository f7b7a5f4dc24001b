//! The catalog context: products with their prices and what they cost before, in categories, found by their words.
//!
//! Invariant: a stock-keeping unit names one product, and an id is never given out twice.

mod domain;
mod schema;
mod search;
mod service;
mod store;

pub use schema::SCHEMA;
pub use service::CatalogService;
