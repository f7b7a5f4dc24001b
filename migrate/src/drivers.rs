//! The databases that the engine can copy from and to, one module each.
//!
//! Invariant: every dialect stays in here; what a driver promises is written at [`crate::engine::driver`].

pub mod postgres;
pub mod sqlite;
