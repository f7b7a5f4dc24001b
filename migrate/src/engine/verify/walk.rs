//! Goes through the parts of all mappings, splits those that differ, and looks at moving keys again.
//!
//! Invariant: parts cover every key once: each begins where the one before ended, and the last has no end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use twox_hash::XxHash3_64;

use super::confirm::AT_ONCE;
use super::pair::Pair;
use super::report::{Difference, Kind, Report};
use super::split::{split, suspects};
use super::state::{KEPT, Place, State};
use super::{Mode, VerifyOptions};
use crate::engine::compare::{CompareSource as _, CompareTarget as _, Part};
use crate::engine::driver::{Bound, Driver, KeyRange, Source as _, Target as _};
use crate::engine::mapping::Mapping;
use crate::engine::run::Stop;
use crate::engine::run::pause;
use crate::error::MigrateError;

/// A range with no more rows than this is compared row by row; a bucket, whose every part reads the whole table, is so earlier.
const ROWS_OF_RANGE: u64 = 50_000;
const ROWS_OF_BUCKET: u64 = 100_000;
/// Keys of a bucket at first.
const KEYS_OF_BUCKET: u64 = 1_000_000;
/// Moving keys that are remembered; more are only counted.
const REMEMBERED: usize = 50_000;
/// Pause between two looks at moving keys.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub(super) struct Walk<'a> {
    pub(super) options: &'a VerifyOptions,
    pub(super) stop: &'a Stop,
    pub(super) watch: &'a mut dyn FnMut(&Report),
    pub(super) began: Instant,
    pub(super) took_before: u64,
    /// How often a database was away in a row.
    pub(super) moved_on: Option<u32>,
}

impl Walk<'_> {
    pub(super) fn took(&self) -> u64 {
        self.took_before + u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Every part, or those that the sample takes.
    pub(super) fn everything<D: Driver>(
        &mut self,
        driver: &D,
        pair: &mut Pair<'_, D>,
        state: &mut State,
    ) -> Result<(), MigrateError> {
        while let Some(mapping) = pair.stream.mappings.get(state.mapping) {
            if self.stop.is_stopped() {
                return Ok(());
            }
            let began = Instant::now();
            let before = state.clone();
            match self.next_part(pair, mapping, state) {
                Ok(()) => self.moved_on = None,
                Err(error) => {
                    *state = before;
                    self.wait(driver, pair, error)?;
                    continue;
                }
            }
            state.report.duration_ms = self.took();
            state.save(pair)?;
            (self.watch)(&state.report);
            self.be_kind(began);
        }
        Ok(())
    }

    /// Waits for a database that is away; any other error ends it.
    fn wait<D: Driver>(
        &mut self,
        driver: &D,
        pair: &mut Pair<'_, D>,
        error: MigrateError,
    ) -> Result<(), MigrateError> {
        let mut error = error;
        loop {
            if !matches!(error, MigrateError::Unreachable { .. }) || self.stop.is_stopped() {
                return Err(error);
            }
            let failures = self.moved_on.map_or(0, |failures| failures + 1);
            self.moved_on = Some(failures);
            tracing::warn!("verification waits: {}", platform::error::chain(&error));
            self.stop.rest(pause(failures));
            match pair.reopen(driver) {
                Ok(()) => return Ok(()),
                Err(again) => error = again,
            }
        }
    }

    fn be_kind(&self, began: Instant) {
        let percent = u32::from(self.options.load_percent.clamp(1, 100));
        self.stop.rest(began.elapsed() * (100 - percent) / percent);
    }

    /// Compares the part at the state's place and moves on to the next one, or to the next mapping.
    fn next_part<D: Driver>(
        &mut self,
        pair: &mut Pair<'_, D>,
        mapping: &Mapping,
        state: &mut State,
    ) -> Result<(), MigrateError> {
        let (part, number, next) = self.part_at(pair, mapping, state)?;
        if state.place == Place::Start {
            self.rows_without_key(pair, mapping, state)?;
        }
        if self.takes(state.mapping, number) {
            self.compare(pair, mapping, part, state)?;
        }
        match next {
            Some(next) => state.place = next,
            None => (state.mapping, state.place) = (state.mapping + 1, Place::Start),
        }
        Ok(())
    }

    /// The part, its number, and the place behind it.
    fn part_at<D: Driver>(
        &self,
        pair: &mut Pair<'_, D>,
        mapping: &Mapping,
        state: &State,
    ) -> Result<(Part, u64, Option<Place>), MigrateError> {
        let stream = pair.stream;
        pair.source.begin(stream, Some(&state.report.fingerprint))?;
        let (after, number) = match &state.place {
            Place::Bucket(index, of) => {
                pair.source.end()?;
                let next = (index + 1 < *of).then(|| Place::Bucket(index + 1, *of));
                return Ok((Part::Bucket { index: *index, of: *of }, u64::from(*index), next));
            }
            Place::Behind(after, number) => (Some(after.clone()), *number),
            Place::Start => (None, 0),
        };
        if after.is_none() && !pair.source.orders_alike(mapping)? {
            let estimate = pair.source.estimate(mapping)?;
            pair.source.end()?;
            let of = u32::try_from(estimate / KEYS_OF_BUCKET + 1).unwrap_or(u32::MAX);
            let next = (of > 1).then_some(Place::Bucket(1, of));
            return Ok((Part::Bucket { index: 0, of }, 0, next));
        }
        let up_to = pair.source.range_end(mapping, after.as_ref(), self.options.part_rows)?;
        pair.source.end()?;
        let next = up_to.clone().map(|up_to| Place::Behind(up_to, number + 1));
        Ok((Part::Range(KeyRange { after, up_to }), number, next))
    }

    fn takes(&self, mapping: usize, number: u64) -> bool {
        let Mode::Sample { percent, seed } = self.options.mode else { return true };
        let chance = XxHash3_64::oneshot_with_seed(seed, format!("{mapping} {number}").as_bytes());
        chance % 100 < u64::from(percent)
    }

    fn rows_without_key<D: Driver>(
        &self,
        pair: &mut Pair<'_, D>,
        mapping: &Mapping,
        state: &mut State,
    ) -> Result<(), MigrateError> {
        let count = pair.within(|pair, _| pair.target.rows_without_key(mapping))?;
        for _ in 0..count {
            let (kind, table) = (Kind::Extra, mapping.table.clone());
            let difference = Difference { kind, table, key: String::new(), columns: Vec::new() };
            state.report.add(state.mapping, difference, self.options.limit);
        }
        Ok(())
    }

    /// Compares a part, and the parts of it that differ, each in snapshots of its own, so that none is held for long.
    fn compare<D: Driver>(
        &self,
        pair: &mut Pair<'_, D>,
        mapping: &Mapping,
        part: Part,
        state: &mut State,
    ) -> Result<(), MigrateError> {
        let mut waiting = vec![part];
        let mut first = true;
        while let Some(part) = waiting.pop() {
            let (sum, found) = pair.within(|pair, _| {
                let (expected, actual) = pair.sums(mapping, &part)?;
                let rows = expected.rows.max(actual.rows);
                let small = match part {
                    Part::Range(_) => ROWS_OF_RANGE,
                    Part::Bucket { .. } => ROWS_OF_BUCKET,
                };
                if expected == actual {
                    return Ok((expected, Found::Suspects(Vec::new())));
                }
                if rows > small {
                    let parts = split(pair, mapping, &part, (expected.rows, actual.rows))?;
                    if parts.len() > 1 {
                        return Ok((expected, Found::Parts(parts)));
                    }
                }
                let hashes = pair.row_hashes(mapping, &part)?;
                Ok((expected, Found::Suspects(suspects(hashes.0, hashes.1))))
            })?;
            if std::mem::take(&mut first)
                && let Some(table) = state.report.tables.get_mut(state.mapping)
            {
                table.rows += sum.rows;
                table.parts += 1;
                table.hash = XxHash3_64::oneshot_with_seed(table.hash, sum.hash.as_bytes());
            }
            match found {
                Found::Parts(parts) => waiting.extend(parts),
                Found::Suspects(keys) => self.settle(pair, state.mapping, &keys, state)?,
            }
        }
        Ok(())
    }

    fn settle<D: Driver>(
        &self,
        pair: &mut Pair<'_, D>,
        number: usize,
        keys: &[Bound],
        state: &mut State,
    ) -> Result<(), MigrateError> {
        let Some(mapping) = pair.stream.mappings.get(number) else { return Ok(()) };
        let confirmed = pair.confirm(mapping, keys)?;
        for difference in confirmed.differ {
            state.report.add(number, difference, self.options.limit);
        }
        for key in confirmed.moving {
            if state.moving.len() < REMEMBERED {
                state.moving.push((number, key));
            } else if let Some(table) = state.report.tables.get_mut(number) {
                table.moving += 1;
            }
        }
        Ok(())
    }

    /// Looks at the moving keys again until each stood still for one look, or patience ends.
    pub(super) fn look_again<D: Driver>(
        &mut self,
        driver: &D,
        pair: &mut Pair<'_, D>,
        state: &mut State,
    ) -> Result<(), MigrateError> {
        let until = Instant::now() + self.options.patience;
        while !state.moving.is_empty() && Instant::now() < until && !self.stop.is_stopped() {
            self.stop.rest(LOOK_AGAIN);
            let before = state.clone();
            let mut keys: BTreeMap<usize, Vec<Bound>> = BTreeMap::new();
            for (number, key) in std::mem::take(&mut state.moving) {
                keys.entry(number).or_default().push(key);
            }
            let settled = keys.iter().try_for_each(|(number, keys)| self.settle(pair, *number, keys, state));
            if let Err(error) = settled {
                *state = before;
                self.wait(driver, pair, error)?;
            }
        }
        if self.stop.is_stopped() {
            return Ok(());
        }
        for (number, key) in std::mem::take(&mut state.moving) {
            if let Some(table) = state.report.tables.get_mut(number) {
                table.moving += 1;
            }
            if state.report.moving_keys.len() < self.options.limit {
                state.report.moving_keys.push(key.0);
            }
        }
        Ok(())
    }

    /// Keys that changed since the last full verification, once catch-up has passed what is in the log now.
    pub(super) fn dirty<D: Driver>(
        &mut self,
        driver: &D,
        pair: &mut Pair<'_, D>,
        state: &mut State,
    ) -> Result<(), MigrateError> {
        let stream = pair.stream;
        let since = kept_position(pair, state)?;
        self.wait_for_batch(pair)?;
        for (number, mapping) in stream.mappings.iter().enumerate() {
            let mut after = None;
            while !self.stop.is_stopped() {
                let rows = u32::try_from(AT_ONCE).unwrap_or(u32::MAX);
                let keys =
                    pair.within(|pair, _| pair.source.dirty_keys(mapping, &since, after.as_ref(), rows))?;
                let Some(keys) = keys else { return self.everything(driver, pair, state) };
                let Some(last) = keys.last() else { break };
                after = Some(last.clone());
                self.settle(pair, number, &keys, state)?;
                if let Some(table) = state.report.tables.get_mut(number) {
                    table.rows += u64::try_from(keys.len()).unwrap_or_default();
                    table.parts += 1;
                }
                (self.watch)(&state.report);
            }
        }
        Ok(())
    }

    /// Waits until the target has reached what the source is now. Where it does not, the keys will be moving.
    fn wait_for_batch<D: Driver>(&self, pair: &mut Pair<'_, D>) -> Result<(), MigrateError> {
        let now = pair.source.begin(pair.stream, None)?;
        pair.source.end()?;
        let until = Instant::now() + self.options.patience;
        while Instant::now() < until && !self.stop.is_stopped() {
            let row = pair.target.stream(&pair.stream.name)?;
            if row.is_some_and(|row| pair.source.covers(&row.pos, &now).unwrap_or(false)) {
                return Ok(());
            }
            self.stop.rest(LOOK_AGAIN);
        }
        Ok(())
    }
}

/// What a part that differs turned out to be.
enum Found {
    Parts(Vec<Part>),
    Suspects(Vec<Bound>),
}

/// Where the last full verification began, if its log was kept.
fn kept_position<D: Driver>(
    pair: &mut Pair<'_, D>,
    state: &State,
) -> Result<crate::engine::Position, MigrateError> {
    let name = &pair.stream.name;
    let kept = super::last_report(&mut pair.target, name)?.filter(|report| {
        report.mapping_hash == state.report.mapping_hash && report.fingerprint == state.report.fingerprint
    });
    let needed = pair.target.needed_positions(name)?;
    kept.map(|report| report.position).filter(|position| needed.contains(position)).ok_or_else(|| {
        MigrateError::refused(
            format!("the log behind the last full verification of {name} is not kept (hold `{KEPT}`)"),
            format!(
                "run `migrate verify {name} --keep-dirty 3600` first, then this within that many seconds"
            ),
        )
    })
}
