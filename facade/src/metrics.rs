//! What the facade counts and shows: cells per worker, their sums, rates of the last seconds, Prometheus' text format.
//!
//! Invariant: a worker's cells are written by that worker alone, so counting needs no locked instruction.

mod cells;
mod render;
mod text;
mod totals;
mod window;

pub(crate) use cells::{Flight, OpenConnection, Outcome, WorkerStats};
pub(crate) use render::{Source, render};
pub(crate) use totals::Totals;
pub(crate) use window::Window;
