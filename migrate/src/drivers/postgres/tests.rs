//! The driver against real servers.
//!
//! Invariant: each test has databases of its own.

mod capture;
mod comparing;
mod copying;
mod types;
mod world;
