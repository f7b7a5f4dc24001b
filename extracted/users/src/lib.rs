//! The users context as a service of its own: the same port and the same public contract as inside the monolith,
//! over another schema in another database.
//!
//! Invariant: the service shares no table and no rule of storage with the monolith; both meet only in the port, in the
//! images of dual-write and in the mapping.

mod domain;
mod schema;
mod service;
mod store;

pub mod process;
pub mod settings;

pub use schema::SCHEMA;
pub use service::PeopleService;
