//! The crossing under change capture: the switch lets the stream rest, so that no run goes on with it, and applies the rest itself.
//!
//! Invariants: a stream rests before it is drained, so nothing but the switch writes to the side that is about to own the data;
//! the way back begins at a position taken while both fences are closed and the sides are equal.

use std::time::Duration;

use crate::drivers::sqlite::SqliteDriver;
use crate::engine::catch_up::{Follower, no_stream};
use crate::engine::run::{needs_capture, needs_same_mapping};
use crate::engine::verify::{Mode, Report, Resume, VerifyOptions, verify};
use crate::engine::{Driver as _, Phase, RunOptions, Source as _, Stop, Stream, StreamRow, Target as _};
use crate::error::MigrateError;
use crate::evidence;
use crate::extraction::Extraction;
use crate::flow::Flow;
use crate::meter::Meter;
use crate::switch::crossing::Crossing;
use crate::switch::hold::UnderHold;

/// Seconds for which the log behind the full comparison is kept: keys in it are compared again under the hold.
const KEEP_LOG: u32 = 3_600;

/// A context under change capture.
pub(super) struct CatchUp<'a> {
    extraction: &'a Extraction,
    flow: Flow,
    /// Fills the side that is to own the data.
    there: (Stream, SqliteDriver),
    /// Fills the side that owns it now.
    back: (Stream, SqliteDriver),
    patience: Duration,
}

impl<'a> CatchUp<'a> {
    pub(super) fn new(
        extraction: &'a Extraction,
        flow: Flow,
        patience: Duration,
    ) -> Result<Self, MigrateError> {
        let there = extraction.stream(flow)?;
        let back = extraction.stream(Flow { from: flow.to, to: flow.from })?;
        Ok(Self { extraction, flow, there, back, patience })
    }

    /// Everything is copied and followed, by the mapping of now.
    fn needs_copy(&self) -> Result<(), MigrateError> {
        let (stream, driver) = &self.there;
        needs_capture(&mut driver.source()?, stream)?;
        let mut target = driver.target()?;
        let row = target.stream(&stream.name)?.ok_or_else(|| no_stream(stream))?;
        needs_same_mapping(stream, &row)?;
        if row.phase == Phase::Loading || !target.chunks_left(stream)?.done {
            return Err(MigrateError::refused(
                format!("the backfill of {} is not done", stream.name),
                "let `migrate run` end it first; `migrate status` shows how far it is",
            ));
        }
        Ok(())
    }

    /// The side that owns the data now can be filled as soon as it does not.
    fn needs_way_back(&self) -> Result<(), MigrateError> {
        let (stream, driver) = &self.back;
        let tables = self.extraction.manifest.tables(self.flow.to);
        if tables.root.is_empty() || tables.key.is_empty() {
            return Err(MigrateError::refused(
                format!("the manifest does not say which table of the {} gives out ids", self.flow.to),
                format!("add [{}] with root and key to it", self.flow.to),
            ));
        }
        if let Some(mapping) = stream.mappings.iter().find(|mapping| mapping.needs_key_map()) {
            return Err(MigrateError::refused(
                format!(
                    "the way back keeps a map of keys for {}, which only a copy of all rows fills",
                    mapping.table
                ),
                "let its mapping carry the source key",
            ));
        }
        let mut source = driver.source()?;
        let state = source.capture_state(stream)?;
        if !state.installed || !state.faults.is_empty() {
            source.install_capture(stream)?;
            source.bound_log(stream, self.extraction.max_log_rows)?;
        }
        driver.target()?.prepare(stream)
    }

    fn compare(&self, mode: Mode, patience: Duration) -> Result<Report, MigrateError> {
        let (stream, driver) = &self.there;
        let options = VerifyOptions {
            mode,
            patience,
            resume: Resume::Anew,
            keep_seconds: KEEP_LOG,
            ..VerifyOptions::default()
        };
        verify(driver, stream, &options, &Stop::default(), &mut |_| {})
    }
}

impl Crossing for CatchUp<'_> {
    fn gates(&mut self) -> Result<(), MigrateError> {
        self.needs_copy()?;
        self.needs_way_back()
    }

    fn verify(&mut self, meter: &mut Meter) -> Result<u64, MigrateError> {
        let report = self.compare(Mode::Full, self.patience)?;
        meter.end(report.rows());
        let context = self.extraction.context();
        evidence::record(&self.extraction.store, context, &report)?;
        if report.moving() > 0 {
            return Err(MigrateError::refused(
                format!("{} changed keys of {context} wait to be applied to the other side", report.moving()),
                format!(
                    "see with `migrate status {context}` whether `migrate run` goes on, then run it again"
                ),
            ));
        }
        needs_equality(&report, context)?;
        Ok(report.rows())
    }

    fn waiting(&mut self) -> Result<i64, MigrateError> {
        Ok(0)
    }

    fn drain(&mut self, held: &UnderHold<'_>) -> Result<i64, MigrateError> {
        let (stream, driver) = &self.there;
        let driver = driver.clone().waiting(held.left("the rest is applied")?);
        let piece = RunOptions::default().piece;
        let caught = Follower::resting(&driver, stream, piece, &self.extraction.points)?.batch()?;
        Ok(i64::try_from(caught.keys).unwrap_or(i64::MAX))
    }

    /// Nothing can be moving any more, so nothing is waited for.
    fn compare_changed(&mut self) -> Result<u64, MigrateError> {
        let report = self.compare(Mode::Dirty, Duration::ZERO)?;
        needs_equality(&report, self.extraction.context())?;
        if report.moving() > 0 {
            return Err(MigrateError::failed(format!(
                "{} keys move although nothing may write",
                report.moving()
            )));
        }
        Ok(report.tables.iter().map(|table| table.rows).max().unwrap_or_default())
    }

    fn start_way_back(&mut self) -> Result<(), MigrateError> {
        let (stream, driver) = &self.back;
        let mut source = driver.source()?;
        let position = source.begin(stream, None)?;
        source.persist_snapshot()?;
        let row = StreamRow {
            pos: position.clone(),
            next: position,
            token: 0,
            phase: Phase::Resting,
            mapping_hash: stream.hash(),
            fingerprint: source.fingerprint(stream)?,
        };
        source.end()?;
        driver.target()?.start_at(stream, &row)
    }
}

fn needs_equality(report: &Report, context: &str) -> Result<(), MigrateError> {
    if report.wrong() == 0 && report.complete {
        return Ok(());
    }
    Err(MigrateError::failed(format!(
        "the sides differ in {} rows of {context}, so ownership stays; `migrate verify {context}` lists them",
        report.wrong()
    )))
}
