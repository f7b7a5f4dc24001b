//! The monolith: composition root, command line, import and seed.
//!
//! Invariant: contexts are constructed in [`wiring`] and nowhere else, so that file is the map of who may call whom.

pub mod background;
pub mod cli;
pub mod import;
pub mod metrics;
pub mod seed;
pub mod settings;
pub mod wiring;

mod commands;
mod progress;
mod serve;
