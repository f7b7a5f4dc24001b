//! The public REST API under `/api/v1`: one module per context, each written against that context's port.
//!
//! Invariant: nothing here knows what stands behind a port, so every side that serves a context's API answers with
//! the same bytes.

pub mod carts;
pub mod categories;
pub mod docs;
pub mod document;
pub mod orders;
pub mod payments;
pub mod products;
pub mod shipments;
pub mod stock;
pub mod users;

mod answer;
mod body;
mod command;
mod cursor;
mod object;
mod operation;
mod precondition;
mod query;
mod request;
