//! The harness: starts, stops and kills the real binaries in a folder of their own, puts load on them, and keeps the
//! books of every acknowledged write.
//!
//! Invariant: it knows the binaries only from outside (command line, settings, HTTP, the files they keep), so what it
//! proves holds for what is shipped. It waits for conditions with a deadline, never for a fixed time.

pub mod binaries;
pub mod cluster;
pub mod configuration;
pub mod context_map;
pub mod databases;
pub mod http;
pub mod load;
pub mod ports;
pub mod process;
pub mod shop;
pub mod wait;

pub use binaries::Binaries;
pub use cluster::{Cluster, Part};
