//! The engine: copies tables that are in use by state, not by events, and knows no database's dialect.
//!
//! Capture logs only *which keys* changed; rows are always read anew. Two things write to the target:
//! [`catch_up`] follows the log, [`backfill`] copies ranges and gives way to catch-up.
//!
//! Invariant: at every commit of the target, for every source key k of a range done:
//! `target(k) = map(source at S of k)`, or k is dirty since S; S is the position in the stream row.
//! The lines that keep it: the order in [`catch_up::Follower::batch`], the exclusion in `backfill::Copier::chunk`,
//! and the limits in [`prune`].

pub mod backfill;
pub mod bounded;
pub mod catch_up;
pub mod compare;
pub mod driver;
pub(crate) mod in_the_way;
pub mod mapping;
mod pace;
pub mod prune;
pub mod repair;
pub mod run;
pub(crate) mod select_text;
pub(crate) mod soundness;
pub mod standing;
pub mod survey;
pub mod verify;
pub mod way_back;

pub use bounded::{Bounded, TooMuch};
pub use driver::{
    Batch, Bound, CaptureState, ChunkDone, ChunksLeft, Claim, ColumnShape, Dirty, Driver, Guard, Joining,
    Kept, KeyRange, Lease, LeaseState, Outcome, Phase, Position, Rows, Source, StreamRow, TableShape, Target,
    Touched,
};
pub use mapping::{Join, Mapping, Stream};
pub use run::{RunOptions, RunReport, RunState, Steering, Stop, run};
