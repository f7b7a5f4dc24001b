//! Verification on moving data: compares the target with what the mapping makes of the source, while both are written.
//!
//! Each part is summed in the target's snapshot first (its stream row says the position P), then in a later one of the source.
//! Parts that differ are split, down to row hashes; the keys found are suspects, which a new pair of snapshots confirms
//! (`pair`): a key that is dirty since P is moving and looked at again later, any other must be equal.
//!
//! Invariants: a difference reported was real in two snapshots; a clean report means that every key was equal at some
//! instant after [`Report::position`]. No part of any size is held in memory.

mod confirm;
mod pair;
mod report;
mod sample;
mod split;
mod state;
mod walk;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::driver::{Driver, Source as _, StreamRow, Target as _};
use super::mapping::Stream;
use super::run::Stop;
use crate::error::MigrateError;
use pair::Pair;
use state::State;
use walk::Walk;

pub(crate) use pair::Pair as SnapshotPair;
pub use report::{ColumnDifference, Difference, Kind, Report, TableReport};
pub(crate) use split::suspects;
pub use state::{confirmed, last_report};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everything.
    Full,
    /// Parts chosen at random, of every table at least one.
    Sample {
        /// Of a hundred parts, how many.
        percent: u8,
        /// The same seed chooses the same parts.
        seed: u64,
    },
    /// Keys that changed since the last full verification, whose log was kept.
    Dirty,
}

/// How to compare.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// What.
    pub mode: Mode,
    /// Keys per part.
    pub part_rows: u32,
    /// Differences listed, which are those that a repair knows of; all are counted.
    pub limit: usize,
    /// How long keys that move are looked at again.
    pub patience: Duration,
    /// Of a hundred seconds, how many the databases may be busy with this.
    pub load_percent: u8,
    /// Whether an earlier verification that was stopped is gone on with.
    pub resume: Resume,
    /// Seconds for which the log behind this verification is kept, for one of [`Mode::Dirty`] to come.
    pub keep_seconds: u32,
}

/// What becomes of a verification that was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// It goes on.
    GoOn,
    /// All begins anew.
    Anew,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Full,
            part_rows: 50_000,
            limit: 2_000,
            patience: Duration::from_secs(10),
            load_percent: 100,
            resume: Resume::GoOn,
            keep_seconds: 0,
        }
    }
}

/// Compares, and keeps the report at the target. A stopped one keeps how far it came instead. `watch` sees it grow.
pub fn verify<D: Driver>(
    driver: &D,
    stream: &Stream,
    options: &VerifyOptions,
    stop: &Stop,
    watch: &mut dyn FnMut(&Report),
) -> Result<Report, MigrateError> {
    let mut pair = Pair::open(driver, stream)?;
    let began = Instant::now();
    let row = ready(&mut pair)?;
    let mut state = State::begin(&mut pair, &row, options)?;
    if options.mode == Mode::Full && options.keep_seconds > 0 && state.is_fresh() {
        state.report.position = pair.keep_log(options.keep_seconds)?;
    }
    let took_before = state.report.duration_ms;
    let mut walk = Walk { options, stop, watch, began, took_before, moved_on: None };
    let walked = match options.mode {
        Mode::Dirty => walk.dirty(driver, &mut pair, &mut state),
        _ => walk.everything(driver, &mut pair, &mut state),
    };
    let looked = walked.and_then(|()| walk.look_again(driver, &mut pair, &mut state));
    state.report.duration_ms = walk.took();
    if let Err(error) = looked {
        let _ = pair.release();
        return Err(error);
    }
    state.report.complete = !stop.is_stopped();
    state.report.dirty_left = pair.dirty_left()?;
    state.end(&mut pair, options)?;
    pair.release()?;
    Ok(state.report)
}

/// What is refused before anything is compared.
fn ready<D: Driver>(pair: &mut Pair<'_, D>) -> Result<StreamRow, MigrateError> {
    let stream = pair.stream;
    let row = pair.target.stream(&stream.name)?.ok_or_else(|| super::catch_up::no_stream(stream))?;
    pair.needs_copy(&row)?;
    // Refused here if the schema is another one by now.
    pair.source.begin(stream, Some(&row.fingerprint))?;
    pair.source.end()?;
    Ok(row)
}
