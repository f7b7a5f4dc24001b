//! Repair: writes the source's rows over those that verification confirmed to differ.
//!
//! Each key is confirmed once more first, so that what healed meanwhile is left alone. Every row is logged as it was before it
//! is written, and as it is afterwards, one JSON object per line.
//!
//! Invariant: a repair gives way to catch-up as a chunk does: the log behind its snapshot is held, and keys that catch-up
//! brought further are left to it.

use std::collections::HashMap;
use std::io::Write;

use serde::Serialize;

use super::compare::{Cells, CompareSource as _, CompareTarget as _, ShownRow};
use super::driver::{Bound, Driver, Guard, Outcome, Position, Source as _, Target as _};
use super::mapping::{Mapping, Stream};
use super::pace::MOST_BYTES;
use super::verify::{Difference, Report, SnapshotPair};
use crate::error::MigrateError;
use crate::fail_point::FailPoints;

/// Keys per transaction.
const AT_ONCE: usize = 200;
/// How often rows are read anew because another row holds a unique value of theirs.
const TRIES: u32 = 5;

/// Whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// Yes.
    Yes,
    /// No: only what would be.
    DryRun,
}

/// What a repair did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RepairReport {
    /// Whether it only looked.
    pub dry_run: bool,
    /// Keys that the verification had found.
    pub keys: u64,
    /// Keys that were equal by now, or changed since and belong to catch-up.
    pub healed: u64,
    /// Keys written.
    pub repaired: u64,
    /// What differs still (in a dry run: what would be written).
    pub left: Vec<Difference>,
    /// Why, where it is known.
    pub reasons: Vec<String>,
}

/// Repairs what a report lists.
pub fn repair<D: Driver>(
    driver: &D,
    stream: &Stream,
    report: &Report,
    writes: Writes,
    log: &mut dyn Write,
    points: &FailPoints,
) -> Result<RepairReport, MigrateError> {
    let pair = SnapshotPair::open(driver, stream)?;
    let done = RepairReport { dry_run: writes == Writes::DryRun, ..RepairReport::default() };
    let mut repairer = Repairer { pair, log, points, done };
    let repaired = repairer.all(stream, report, writes);
    let released = repairer.pair.release();
    repaired?;
    released?;
    Ok(repairer.done)
}

struct Repairer<'a, D: Driver> {
    pair: SnapshotPair<'a, D>,
    log: &'a mut dyn Write,
    points: &'a FailPoints,
    done: RepairReport,
}

/// One line of the log.
#[derive(Serialize)]
struct Line<'a> {
    at_ms: i64,
    table: &'a str,
    /// `before` is written before anything else is, `after` when it is committed.
    step: &'a str,
    key: &'a str,
    columns: &'a [String],
    rows: Vec<&'a [Option<String>]>,
}

impl<D: Driver> Repairer<'_, D> {
    fn all(&mut self, stream: &Stream, report: &Report, writes: Writes) -> Result<(), MigrateError> {
        for mapping in &stream.mappings {
            let keys = report.keys_of(&mapping.table);
            for keys in keys.chunks(AT_ONCE) {
                self.some(mapping, keys, writes)?;
            }
        }
        let lost: Vec<&Difference> =
            report.differences.iter().filter(|difference| difference.key.is_empty()).collect();
        if !lost.is_empty() {
            self.done.reasons.push(format!(
                "{} rows carry no source key, so no repair can know what they should be: remove them by hand",
                lost.len()
            ));
        }
        let named = lost
            .iter()
            .map(|row| format!("remove from {} the row with source key {}", row.table, row.place()));
        self.done.reasons.extend(named);
        Ok(())
    }

    fn some(&mut self, mapping: &Mapping, keys: &[Bound], writes: Writes) -> Result<(), MigrateError> {
        let confirmed = self.pair.confirm(mapping, keys)?;
        let mut wrong: Vec<Bound> =
            confirmed.differ.iter().map(|difference| Bound(difference.key.clone())).collect();
        wrong.dedup();
        let count = |keys: &[Bound]| u64::try_from(keys.len()).unwrap_or(u64::MAX);
        self.done.keys += count(keys);
        self.done.healed += count(keys).saturating_sub(count(&wrong));
        if writes == Writes::DryRun || wrong.is_empty() {
            self.done.left.extend(confirmed.differ);
            return Ok(());
        }
        for keys in self.within_memory(mapping, &wrong)? {
            self.log_rows(mapping, keys, "before")?;
            self.write(mapping, keys)?;
            self.points.pass("repair_applied")?;
            self.log_rows(mapping, keys, "after")?;
        }
        let after = self.pair.confirm(mapping, &wrong)?;
        let mut left: Vec<&str> = after.differ.iter().map(|difference| difference.key.as_str()).collect();
        left.dedup();
        self.done.repaired += count(&wrong).saturating_sub(u64::try_from(left.len()).unwrap_or_default());
        self.done.left.extend(after.differ);
        Ok(())
    }

    /// The keys in parts whose rows may be held at once.
    fn within_memory<'k>(
        &mut self,
        mapping: &Mapping,
        keys: &'k [Bound],
    ) -> Result<Vec<&'k [Bound]>, MigrateError> {
        let (expected, found) = self.pair.within(|pair, _| pair.show(mapping, keys))?;
        let mut bytes: HashMap<&Bound, u64> = HashMap::new();
        for row in expected.iter().chain(&found) {
            *bytes.entry(&row.key).or_default() += row.bytes;
        }
        let mut held = 0;
        let fits = |one: &Bound, other: &Bound| {
            held += bytes.get(one).copied().unwrap_or_default();
            let fits = held + bytes.get(other).copied().unwrap_or_default() <= MOST_BYTES;
            held = if fits { held } else { 0 };
            fits
        };
        Ok(keys.chunk_by(fits).collect())
    }

    fn write(&mut self, mapping: &Mapping, keys: &[Bound]) -> Result<(), MigrateError> {
        for _ in 0..TRIES {
            // Held before the snapshot is taken, so that the log behind the snapshot is there when the keys touched are asked for.
            self.pair.hold_log()?;
            let SnapshotPair { source, target, stream, .. } = &mut self.pair;
            let row = target.stream(&stream.name)?.ok_or_else(|| super::catch_up::no_stream(stream))?;
            let read = source.begin(stream, Some(&row.fingerprint)).and_then(|snapshot| {
                source.persist_snapshot()?;
                let keys = source.keys(mapping, keys)?;
                Ok((snapshot, source.rows_of(mapping, &keys)?))
            });
            source.end()?;
            let (snapshot, batch) = read?;
            let mut touched = |next: &Position| source.touched(mapping, next, &snapshot);
            let guard = Guard::GivingWay { stream: &stream.name, chunk: None, touched: &mut touched };
            match target.apply(guard, mapping, &batch)? {
                Outcome::Written(_) => return Ok(()),
                Outcome::Collides { example, .. } => self
                    .done
                    .reasons
                    .push(format!("rows for {} need a unique value that is taken: {example}", mapping.table)),
                Outcome::Superseded => {}
            }
        }
        self.done.reasons.dedup();
        Ok(())
    }

    fn log_rows(&mut self, mapping: &Mapping, keys: &[Bound], step: &str) -> Result<(), MigrateError> {
        let rows = self.pair.within(|pair, _| pair.target.show(mapping, keys, Cells::Whole))?;
        let of = |key: &Bound| -> Vec<&ShownRow> { rows.iter().filter(|row| row.key == *key).collect() };
        for key in keys {
            let rows = of(key).into_iter().map(|row| row.values.as_slice()).collect();
            let (table, columns) = (mapping.table.as_str(), mapping.columns.as_slice());
            let line = Line { at_ms: control::now_ms(), table, step, key: &key.0, columns, rows };
            serde_json::to_writer(&mut *self.log, &line)
                .map_err(std::io::Error::from)
                .and_then(|()| self.log.write_all(b"\n"))
                .map_err(|error| not_logged(&error))?;
        }
        self.log.flush().map_err(|error| not_logged(&error))
    }
}

fn not_logged(error: &std::io::Error) -> MigrateError {
    MigrateError::failed(format!("the repair's log cannot be written, so nothing more is repaired: {error}"))
}
