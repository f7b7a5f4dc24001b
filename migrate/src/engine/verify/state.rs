//! How far a verification is, kept as a note at the target, so that a new process goes on where one was killed.
//!
//! Invariant: a state is gone on with only under the mapping, schema, mode and size of parts that it was begun with.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::pair::Pair;
use super::report::Report;
use super::sample::Spare;
use super::{Mode, Resume, VerifyOptions};
use crate::engine::compare::CompareTarget as _;
use crate::engine::driver::{Bound, Driver, StreamRow, Target};
use crate::error::MigrateError;

/// The note of a verification under way.
const STATE: &str = "verify.state";
/// The note of the last one that came to its end, per mode.
const VERIFIED: &str = "verified";
const SAMPLED: &str = "verified.sample";
const LOOKED_AT: &str = "verified.dirty";
/// The hold that keeps the log behind it.
pub(super) const KEPT: &str = "verified";
/// How often the state is kept.
const SAVE: Duration = Duration::from_secs(1);

/// How far it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) report: Report,
    part_rows: u32,
    /// Position of the mapping under way.
    pub(super) mapping: usize,
    /// The part to come.
    pub(super) place: Place,
    /// Of a sample.
    pub(super) spare: Spare,
    /// Keys to look at again, with their mapping's position.
    pub(super) moving: Vec<(usize, Bound)>,
    #[serde(skip)]
    saved: Option<Instant>,
}

/// Where in a mapping's keys it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place {
    /// Before the first.
    #[default]
    Start,
    /// Behind this key, or at the first one; the number of the part that begins there.
    Behind(Option<Bound>, u64),
    /// At this bucket, of so many.
    Bucket(u32, u32),
}

impl State {
    pub(super) fn begin<D: Driver>(
        pair: &mut Pair<'_, D>,
        row: &StreamRow,
        options: &VerifyOptions,
    ) -> Result<Self, MigrateError> {
        let fresh = Self {
            report: Report::new(pair.stream, row, options.mode),
            part_rows: options.part_rows,
            mapping: 0,
            place: Place::Start,
            spare: Spare::None,
            moving: Vec::new(),
            saved: None,
        };
        let note = pair.target.note(&pair.stream.name, STATE)?.filter(|_| options.resume == Resume::GoOn);
        // A note of an older version of this program, or a damaged one, costs a new start and nothing else.
        let kept = note.and_then(|text| serde_json::from_str::<Self>(&text).ok());
        let ours = |kept: &Self| {
            kept.report.mode != Mode::Dirty
                && kept.report.is_valid_for(row)
                && kept.report.mode == options.mode
                && kept.part_rows == options.part_rows
        };
        Ok(kept.filter(ours).unwrap_or(fresh))
    }

    /// Whether nothing is compared yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.mapping == 0 && self.place == Place::Start
    }

    /// What one schema's rows sum up to says nothing of another's.
    pub(super) fn needs_same_schema(&self, row: &StreamRow) -> Result<(), MigrateError> {
        if row.fingerprint == self.report.fingerprint {
            return Ok(());
        }
        Err(MigrateError::refused(
            format!("the stream {} was begun anew under another schema meanwhile", self.report.stream),
            "verify again",
        ))
    }

    pub(super) fn save<D: Driver>(&mut self, pair: &mut Pair<'_, D>) -> Result<(), MigrateError> {
        if self.saved.is_some_and(|saved| saved.elapsed() < SAVE) {
            return Ok(());
        }
        self.saved = Some(Instant::now());
        let text = to_json(self)?;
        pair.target.set_note(&pair.stream.name, STATE, Some(&text))
    }

    /// Keeps the report of one that came to its end, the state of one that was stopped.
    pub(super) fn end<D: Driver>(
        &mut self,
        pair: &mut Pair<'_, D>,
        options: &VerifyOptions,
    ) -> Result<(), MigrateError> {
        let name = &pair.stream.name;
        if !self.report.complete {
            self.saved = None;
            return self.save(pair);
        }
        let text = to_json(&self.report)?;
        pair.target.set_note(name, note_of(options.mode), Some(&text))?;
        pair.target.set_note(name, STATE, None)?;
        if options.mode == Mode::Full && options.keep_seconds > 0 {
            pair.target.hold(name, KEPT, &self.report.position, options.keep_seconds)?;
        }
        Ok(())
    }
}

/// A sample or a look at the dirty set never stands in for a full verification.
fn note_of(mode: Mode) -> &'static str {
    match mode {
        Mode::Full => VERIFIED,
        Mode::Sample { .. } => SAMPLED,
        Mode::Dirty => LOOKED_AT,
    }
}

/// The last full verification that came to its end.
pub fn last_report<T: Target>(target: &mut T, stream: &str) -> Result<Option<Report>, MigrateError> {
    let note = target.note(stream, VERIFIED)?;
    Ok(note.and_then(|text| serde_json::from_str(&text).ok()))
}

/// What the last verifications of every mode have confirmed, as one report: that of the full one where there is one, with the
/// differences of all.
pub fn confirmed<T: Target>(target: &mut T, stream: &str) -> Result<Option<Report>, MigrateError> {
    let mut all: Option<Report> = None;
    for note in [VERIFIED, SAMPLED, LOOKED_AT] {
        let text = target.note(stream, note)?;
        let Some(report) = text.and_then(|text| serde_json::from_str::<Report>(&text).ok()) else { continue };
        match &mut all {
            None => all = Some(report),
            Some(all) => {
                let fresh = report.differences.into_iter().filter(|found| !all.differences.contains(found));
                let fresh: Vec<_> = fresh.collect();
                all.differences.extend(fresh);
            }
        }
    }
    Ok(all)
}

fn to_json(value: &impl Serialize) -> Result<String, MigrateError> {
    serde_json::to_string(value).map_err(|error| MigrateError::failed(error.to_string()))
}
