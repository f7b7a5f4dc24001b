//! The public REST API under `/api/v1`: one module per context, each written against that context's port.
//!
//! Invariant: nothing here knows what stands behind a port, so every side that serves a context's API answers with
//! the same bytes.

pub mod orders;
pub mod products;
pub mod users;

mod answer;
mod body;
mod cursor;
mod object;
mod query;
mod request;
