//! Goes through the parts of all mappings, splits those that differ, and looks at moving keys again.
//!
//! Invariant: parts cover every key once: each begins where the one before ended, and the last has no end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use twox_hash::XxHash3_64;

use super::confirm::{AT_ONCE, unowned};
use super::pair::{Pair, Step, Taken};
use super::report::Report;
use super::sample::{self, Met};
use super::split::{Differing, narrow};
use super::state::{KEPT, Place, State};
use super::{Mode, VerifyOptions};
use crate::engine::compare::{CompareSource, Part, ShownRow};
use crate::engine::driver::{Bound, Driver, KeyRange, Source as _, Target as _};
use crate::engine::mapping::{Mapping, Stream};
use crate::engine::run::Stop;
use crate::engine::run::pause;
use crate::error::MigrateError;

/// How old a pair of snapshots may be before another part is begun. Opening one takes as long as a small part; held for long,
/// it keeps the databases from tidying up, and whoever alters a table waits.
pub(super) const AGE_OF_SNAPSHOTS: Duration = Duration::from_secs(1);
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
        while state.mapping < pair.stream.mappings.len() {
            if self.stop.is_stopped() {
                return Ok(());
            }
            let began = Instant::now();
            let before = state.clone();
            match self.next_parts(pair, state) {
                Ok(()) => self.moved_on = None,
                Err(error) => {
                    *state = before;
                    self.wait(driver, pair, error)?;
                    continue;
                }
            }
            state.save(pair)?;
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

    /// Compares parts in one pair of snapshots until those are old; then looks into those that differ.
    fn next_parts<D: Driver>(
        &mut self,
        pair: &mut Pair<'_, D>,
        state: &mut State,
    ) -> Result<(), MigrateError> {
        let stream = pair.stream;
        let taken = pair.within(|pair, row| {
            state.needs_same_schema(row)?;
            let began = Instant::now();
            pair.take(self.options.limit, |source| {
                let late = began.elapsed() > AGE_OF_SNAPSHOTS || self.stop.is_stopped();
                if late { Ok(None) } else { self.next_step(source, stream, state) }
            })
        })?;
        let mut differing = Vec::new();
        for Taken { step: Step { number, mapping, part }, expected, found, unowned } in taken {
            let Some(part) = part else {
                self.rows_without_key((number, mapping), found.rows, unowned, state);
                continue;
            };
            if let Some(table) = state.report.tables.get_mut(number) {
                table.rows += expected.rows;
                table.parts += 1;
                table.hash = XxHash3_64::oneshot_with_seed(table.hash, &expected.hash.to_be_bytes());
            }
            if expected != found {
                differing.push(Differing { number, mapping, part, expected, found });
            }
            state.report.duration_ms = self.took();
            (self.watch)(&state.report);
        }
        self.look_into(pair, differing, state)
    }

    /// The next step behind the state's place, which moves on; nothing behind the last mapping.
    fn next_step<'a, S: CompareSource>(
        &self,
        source: &mut S,
        stream: &'a Stream,
        state: &mut State,
    ) -> Result<Option<Step<'a>>, MigrateError> {
        while let Some(mapping) = stream.mappings.get(state.mapping) {
            let number = state.mapping;
            if state.place == Place::Start {
                state.place = self.first_place(source, mapping)?;
                return Ok(Some(Step { number, mapping, part: None }));
            }
            let (part, of_mapping, next) = self.part_at(source, mapping, state)?;
            let is_last = next.is_none();
            (state.mapping, state.place) = next.map_or((number + 1, Place::Start), |next| (number, next));
            let part = match self.options.mode {
                Mode::Sample { percent, seed } => {
                    let is_empty = is_last && is_empty(source, mapping, &part)?;
                    let chance = sample::chance(seed, number, of_mapping);
                    state.spare.choose(Met { part, chance, is_last, is_empty }, percent)
                }
                Mode::Full | Mode::Dirty => Some(part),
            };
            if part.is_some() {
                return Ok(Some(Step { number, mapping, part }));
            }
        }
        Ok(None)
    }

    /// Where a mapping's parts begin.
    fn first_place<S: CompareSource>(
        &self,
        source: &mut S,
        mapping: &Mapping,
    ) -> Result<Place, MigrateError> {
        if source.orders_alike(mapping)? {
            return Ok(Place::Behind(None, 0));
        }
        let of = u32::try_from(source.estimate(mapping)? / KEYS_OF_BUCKET + 1).unwrap_or(u32::MAX);
        Ok(Place::Bucket(0, of))
    }

    /// The part at the state's place, its number in the mapping, and the place behind it.
    fn part_at<S: CompareSource>(
        &self,
        source: &mut S,
        mapping: &Mapping,
        state: &State,
    ) -> Result<(Part, u64, Option<Place>), MigrateError> {
        let (after, number) = match &state.place {
            Place::Bucket(index, of) => {
                let next = (index + 1 < *of).then(|| Place::Bucket(index + 1, *of));
                return Ok((Part::Bucket { index: *index, of: *of }, u64::from(*index), next));
            }
            Place::Behind(after, number) => (after.clone(), *number),
            Place::Start => (None, 0),
        };
        let up_to = source.part_end(mapping, after.as_ref(), self.options.part_rows)?;
        let range = KeyRange { after, up_to };
        let next = range.up_to.clone().map(|up_to| Place::Behind(Some(up_to), number + 1));
        Ok((Part::Range(range), number, next))
    }

    fn rows_without_key(
        &self,
        (number, mapping): (usize, &Mapping),
        count: u64,
        shown: Vec<ShownRow>,
        state: &mut State,
    ) {
        let mut shown = shown.into_iter();
        for _ in 0..count {
            let difference = unowned(mapping, shown.next());
            state.report.add(number, difference, self.options.limit);
        }
    }

    /// Narrows parts that differ down to keys, which are looked at once more.
    fn look_into<'a, D: Driver>(
        &self,
        pair: &mut Pair<'a, D>,
        mut differing: Vec<Differing<'a>>,
        state: &mut State,
    ) -> Result<(), MigrateError> {
        while !differing.is_empty() {
            let suspects = pair.within(|pair, _| narrow(pair, &mut differing))?;
            for (number, keys) in suspects {
                self.settle(pair, number, &keys, state)?;
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

/// Whether the source has no key of a part; of a bucket that is not asked.
fn is_empty<S: CompareSource>(source: &mut S, mapping: &Mapping, part: &Part) -> Result<bool, MigrateError> {
    match part {
        Part::Range(range) => Ok(source.range_end(mapping, range, 1)?.is_none()),
        Part::Bucket { .. } => Ok(false),
    }
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
