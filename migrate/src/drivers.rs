//! The drivers: one module per database engine, each with a reading and a writing end for [`crate::engine`].
//!
//! Invariant: whatever knows a dialect stands here; the engine knows none.

pub mod postgres;
