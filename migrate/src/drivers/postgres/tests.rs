//! The driver against real servers.
//!
//! Invariant: each test has databases of its own.

mod capture;
mod world;
