//! `migrate verify`: compares every row of both sides, in both directions of the mapping, while both are in use.
//!
//! A scan finds suspicious keys; each is then looked at again (`confirm`): the owner's version and waiting images,
//! its rows, the other side's rows, and the owner's version once more. It differs only if the owner did not move in
//! between and nothing was waiting, since then the other side had every reason to be equal. Otherwise it is moving,
//! and looked at again later.
//!
//! Invariants: a difference reported was real at one instant; a clean report means that every key was equal at some
//! instant after [`Report::position`] was read.

mod confirm;
mod report;

use std::time::{Duration, Instant};

use control::{Verification, now_ms};

pub use report::{ColumnDifference, Difference, Kind, Report};

use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::flow::{End, Flow};
use crate::meter::Meter;
use crate::sqlite::{Key, KeyKind, KeyRange, Pair};

/// Pause between two looks at keys that move.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How to compare.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions {
    /// Differences listed; all are counted.
    pub limit: usize,
    /// Keys per snapshot.
    pub chunk_rows: u32,
    /// How long keys that move are looked at again.
    pub patience: Duration,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { limit: 20, chunk_rows: 5_000, patience: Duration::from_secs(10) }
    }
}

/// Compares everything and records the outcome in the control store.
pub fn run(
    extraction: &Extraction,
    options: VerifyOptions,
    meter: &mut Meter,
) -> Result<Report, MigrateError> {
    let flow = extraction.settled_flow()?;
    let mut comparison = Comparison::open(extraction, flow, options)?;
    comparison.all(meter)?;
    record(extraction, &comparison.report)?;
    Ok(comparison.report)
}

/// Records a full comparison in the control store, whose gates go by it.
pub(crate) fn record(extraction: &Extraction, report: &Report) -> Result<(), MigrateError> {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    extraction.store.record_verification(&Verification {
        context: report.context.clone(),
        clean: report.clean(),
        rows: count(report.rows),
        differences: count(report.differences() + report.moving),
        position: report.position,
        mapping_hash: report.mapping_hash.clone(),
        evidence: report.evidence(),
        at_ms: now_ms(),
    })?;
    Ok(())
}

/// A comparison under way.
pub(crate) struct Comparison<'a> {
    extraction: &'a Extraction,
    pair: Pair,
    owner: End,
    kind: KeyKind,
    options: VerifyOptions,
    pub(crate) report: Report,
    /// Keys that moved each time they were looked at.
    moving: Vec<Key>,
}

impl<'a> Comparison<'a> {
    pub(crate) fn open(
        extraction: &'a Extraction,
        flow: Flow,
        options: VerifyOptions,
    ) -> Result<Self, MigrateError> {
        let pair = Pair::read_only(&extraction.files)?;
        extraction.needs_fitting_mapping(&pair)?;
        let owner = flow.from;
        let state = pair.known_context(owner, extraction.context())?;
        pair.known_context(flow.to, extraction.context())?;
        let root = extraction.manifest.tables(owner);
        let kind = pair.key_kind(owner, &root.root, &root.key)?;
        let report = Report::new(extraction, owner.side(), state.version, options.limit);
        Ok(Self { extraction, pair, owner, kind, options, report, moving: Vec::new() })
    }

    /// Compares every row.
    pub(crate) fn all(&mut self, meter: &mut Meter) -> Result<(), MigrateError> {
        let began = Instant::now();
        let manifest = &self.extraction.manifest;
        let total = self.pair.count(self.owner, &manifest.tables(self.owner).root)?;
        meter.begin(0, u64::try_from(total).unwrap_or_default());
        self.count_rows_without_key()?;
        let mut after: Option<Key> = None;
        let mut done = 0;
        loop {
            let (up_to, keys, scan) = self.pair.snapshot(|pair| {
                let up_to = pair.range_end(manifest, self.owner, after.as_ref(), self.options.chunk_rows)?;
                let range = KeyRange { after: after.clone(), up_to: up_to.clone() };
                let keys = pair.range_count(manifest, self.owner, &range)?;
                Ok((up_to, keys, pair.scan_range(manifest, &range)?))
            })?;
            self.report.rows += scan.rows;
            self.confirm_or_postpone(&scan.suspects)?;
            done += u64::try_from(keys).unwrap_or_default();
            meter.advance(done);
            if up_to.is_none() {
                break;
            }
            after = up_to;
        }
        self.wait_for_moving()?;
        meter.end(done);
        self.report.keys = done;
        self.report.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Compares what the owner changed or removed since the report's position, and what moved before; then moves the
    /// position. Returns how many keys that were.
    pub(crate) fn changed(&mut self) -> Result<u64, MigrateError> {
        let manifest = &self.extraction.manifest;
        let (position, keys) = self.pair.snapshot(|pair| {
            let state = pair.known_context(self.owner, self.extraction.context())?;
            pair.unstage()?;
            pair.stage(&self.moving)?;
            pair.stage_changed_since(manifest, self.owner, self.kind, self.report.position)?;
            Ok((state.version, pair.staged()?))
        })?;
        self.moving.clear();
        self.confirm_or_postpone(&keys)?;
        self.report.position = position;
        self.report.moving = u64::try_from(self.moving.len()).unwrap_or_default();
        Ok(u64::try_from(keys.len()).unwrap_or_default())
    }

    fn confirm_or_postpone(&mut self, keys: &[Key]) -> Result<(), MigrateError> {
        for batch in keys.chunks(5_000) {
            let moving = confirm::confirm(self.extraction, &self.pair, self.owner, batch, &mut self.report)?;
            self.moving.extend(moving);
        }
        Ok(())
    }

    /// Looks at the moving keys again until each stood still for one look, or patience ends.
    fn wait_for_moving(&mut self) -> Result<(), MigrateError> {
        let until = Instant::now() + self.options.patience;
        while !self.moving.is_empty() && Instant::now() < until {
            std::thread::sleep(LOOK_AGAIN);
            let keys = std::mem::take(&mut self.moving);
            self.confirm_or_postpone(&keys)?;
        }
        self.report.moving = u64::try_from(self.moving.len()).unwrap_or_default();
        self.report.moving_keys =
            self.moving.iter().take(self.options.limit).map(crate::sqlite::show).collect();
        Ok(())
    }

    fn count_rows_without_key(&mut self) -> Result<(), MigrateError> {
        for end in [End::Source, End::Target] {
            for map in self.extraction.manifest.maps_into(end) {
                let count = self.pair.rows_without_key(end, map)?;
                self.report.add_rows_without_key(
                    map,
                    end == self.owner,
                    u64::try_from(count).unwrap_or_default(),
                );
            }
        }
        Ok(())
    }
}
