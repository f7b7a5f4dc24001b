//! The users context inside the monolith: people, in one table with their addresses as JSON.
//!
//! Invariant: every write takes its version behind the fence, and what the port shows is what the wire carries.

mod domain;
mod schema;
mod service;
mod store;

pub use schema::SCHEMA;
pub use service::UsersService;
