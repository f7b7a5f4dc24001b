//! The cart context: what somebody means to buy.
//!
//! Invariant: a user has at most one open cart, and what is no longer open never changes.

mod domain;
mod handlers;
mod schema;
mod service;
mod store;

pub use schema::SCHEMA;
pub use service::CartService;
