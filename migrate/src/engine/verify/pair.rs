//! The two snapshots of a comparison.
//!
//! Invariant: hold, then the target's snapshot with the position P in it, then the source's. So the log behind P is there
//! when it is asked for, and a key that is not dirty since P has in the target what the source's snapshot says.

use std::sync::mpsc;

use crate::engine::compare::{Cells, CompareSource as _, CompareTarget as _, Part, RowHash, ShownRow, Sum};
use crate::engine::driver::{Bound, Driver, Phase, Position, Source as _, StreamRow, Target as _};
use crate::engine::mapping::{Mapping, Stream};
use crate::engine::way_back::WayBack;
use crate::error::MigrateError;

/// How long the log is kept should this process die.
const HOLD_SECONDS: u32 = 900;

/// What is asked of both ends in one pair of snapshots.
#[derive(Debug, Clone)]
pub(super) struct Step<'a> {
    /// The mapping's position in the stream.
    pub(super) number: usize,
    pub(super) mapping: &'a Mapping,
    /// The part to sum; none: only count the target's rows that carry no source key.
    pub(super) part: Option<Part>,
}

/// A step and its answers.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    pub(super) step: Step<'a>,
    /// The source's.
    pub(super) expected: Sum,
    /// The target's.
    pub(super) found: Sum,
    /// Rows of the target that carry no source key, up to a limit.
    pub(super) unowned: Vec<ShownRow>,
}

/// Both ends, with a snapshot each between `begin` and `end`.
pub(crate) struct Pair<'a, D: Driver> {
    pub(crate) stream: &'a Stream,
    pub(crate) source: D::Source,
    pub(crate) target: D::Target,
    way_back: Option<WayBack<D>>,
    hold: String,
}

impl<'a, D: Driver> Pair<'a, D> {
    pub(crate) fn open(driver: &D, stream: &'a Stream) -> Result<Self, MigrateError> {
        let nanos =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let hold = format!("verify-{}-{nanos}", std::process::id());
        let (source, target) = (driver.source()?, driver.target()?);
        Ok(Self { stream, source, target, way_back: WayBack::open(driver, stream)?, hold })
    }

    /// Connects anew.
    pub(crate) fn reopen(&mut self, driver: &D) -> Result<(), MigrateError> {
        (self.source, self.target) = (driver.source()?, driver.target()?);
        self.way_back = WayBack::open(driver, self.stream)?;
        Ok(())
    }

    /// Runs `work` between begin and end of both snapshots.
    pub(crate) fn within<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &StreamRow) -> Result<T, MigrateError>,
    ) -> Result<T, MigrateError> {
        let done = self.begin().and_then(|row| work(self, &row));
        let ended = (self.source.end(), self.target.end_snapshot());
        let done = done?;
        ended.0?;
        ended.1?;
        Ok(done)
    }

    fn begin(&mut self) -> Result<StreamRow, MigrateError> {
        self.hold_log()?;
        let row = self
            .target
            .snapshot(self.stream)?
            .ok_or_else(|| crate::engine::catch_up::no_stream(self.stream))?;
        crate::engine::run::needs_same_mapping(self.stream, &row)?;
        self.source.begin(self.stream, Some(&row.fingerprint))?;
        Ok(row)
    }

    /// Where not everything is copied yet, or not any more since the copy began anew, everything not copied would differ.
    pub(super) fn needs_copy(&mut self, row: &StreamRow) -> Result<(), MigrateError> {
        crate::engine::run::needs_same_mapping(self.stream, row)?;
        if row.phase != Phase::Loading && self.target.chunks_left(self.stream)?.done {
            return Ok(());
        }
        Err(MigrateError::refused(
            format!("the backfill of {} is not done", self.stream.name),
            format!(
                "let `{}` end it first; `migrate status` shows how far it is",
                self.stream.command("run")
            ),
        ))
    }

    /// Keeps the log from the present position on. What was pruned before this is committed was seen by a position that a later
    /// snapshot of the target has passed.
    pub(crate) fn hold_log(&mut self) -> Result<(), MigrateError> {
        let name = &self.stream.name;
        let row = self.target.stream(name)?.ok_or_else(|| crate::engine::catch_up::no_stream(self.stream))?;
        self.target.hold(name, &self.hold, &row.pos, HOLD_SECONDS)
    }

    /// Keeps the log behind the present position for a comparison of [`super::Mode::Dirty`] to come, from before anything is
    /// compared: behind that, catch-up moves on, and its log is pruned. A position that was passed before the hold was
    /// committed may be pruned already.
    pub(super) fn keep_log(&mut self, seconds: u32) -> Result<Position, MigrateError> {
        let name = &self.stream.name;
        let standing = |target: &mut D::Target| {
            target.stream(name)?.ok_or_else(|| crate::engine::catch_up::no_stream(self.stream))
        };
        let mut row = standing(&mut self.target)?;
        loop {
            self.target.hold(name, super::state::KEPT, &row.pos, seconds)?;
            let now = standing(&mut self.target)?;
            if now.pos == row.pos {
                return Ok(row.pos);
            }
            row = now;
        }
    }

    /// Ends the hold.
    pub(crate) fn release(&mut self) -> Result<(), MigrateError> {
        self.target.drop_hold(&self.stream.name, &self.hold)
    }

    /// Takes steps one by one at both ends, each at its own pace: none waits for the other before the last step. `next` says
    /// which, and may ask the source. Of rows without a source key, `most` are shown.
    pub(super) fn take(
        &mut self,
        most: usize,
        mut next: impl FnMut(&mut D::Source) -> Result<Option<Step<'a>>, MigrateError>,
    ) -> Result<Vec<Taken<'a>>, MigrateError> {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let Self { source, target, .. } = self;
        let (give, steps) = mpsc::channel::<Step<'a>>();
        let (expected, found) = beside(
            move || {
                let mut sums = Vec::new();
                while let Some(step) = next(source)? {
                    // Nobody listens if the other end failed, and that is what is told.
                    if give.send(step.clone()).is_err() {
                        break;
                    }
                    sums.push(
                        step.part
                            .map_or_else(|| Ok(Sum::default()), |part| source.sum(step.mapping, &part))?,
                    );
                }
                Ok(sums)
            },
            move || {
                let sum = |step: Step<'a>| {
                    let Some(part) = &step.part else {
                        let (rows, unowned) = target.rows_without_key(step.mapping, most)?;
                        return Ok((step, Sum { rows, ..Sum::default() }, unowned));
                    };
                    let sum = target.sum(step.mapping, part)?;
                    Ok((step, sum, Vec::new()))
                };
                steps.iter().map(sum).collect::<Result<Vec<_>, MigrateError>>()
            },
        )?;
        let both = found.into_iter().zip(expected);
        let taken = both.map(|((step, found, unowned), expected)| Taken { step, expected, found, unowned });
        Ok(taken.collect())
    }

    pub(super) fn sums(&mut self, mapping: &Mapping, part: &Part) -> Result<(Sum, Sum), MigrateError> {
        let Self { source, target, .. } = self;
        beside(|| source.sum(mapping, part), || target.sum(mapping, part))
    }

    pub(super) fn row_hashes(
        &mut self,
        mapping: &Mapping,
        part: &Part,
    ) -> Result<(Vec<RowHash>, Vec<RowHash>), MigrateError> {
        let Self { source, target, .. } = self;
        beside(|| source.row_hashes(mapping, part), || target.row_hashes(mapping, part))
    }

    /// The rows of some keys at both ends, their cells cut.
    pub(crate) fn show(
        &mut self,
        mapping: &Mapping,
        keys: &[Bound],
    ) -> Result<(Vec<ShownRow>, Vec<ShownRow>), MigrateError> {
        Ok((self.source.show(mapping, keys)?, self.target.show(mapping, keys, Cells::Cut)?))
    }

    pub(super) fn is_way_back(&self) -> bool {
        self.way_back.is_some()
    }

    /// On the way back: those of some keys that are wrong although their row may be another one than the inverse makes. To be asked
    /// between two snapshots, of which the later one tells which of them are dirty since the first.
    pub(super) fn outdated(
        &mut self,
        mapping: &Mapping,
        keys: Vec<Bound>,
    ) -> Result<Vec<Bound>, MigrateError> {
        match &mut self.way_back {
            Some(way_back) => way_back.outdated(mapping, &keys),
            None => Ok(keys),
        }
    }

    /// How many keys catch-up has still to apply.
    pub(super) fn dirty_left(&mut self) -> Result<u64, MigrateError> {
        self.within(|pair, row| {
            let mut left = 0;
            for mapping in &pair.stream.mappings {
                left += pair.source.stage_dirty(mapping, &row.pos)?.keys;
            }
            Ok(left)
        })
    }
}

fn beside<S, T: Send>(
    here: impl FnOnce() -> Result<S, MigrateError>,
    there: impl FnOnce() -> Result<T, MigrateError> + Send,
) -> Result<(S, T), MigrateError> {
    std::thread::scope(|scope| {
        let there = scope.spawn(there);
        let here = here();
        let there = there.join().map_err(|_| MigrateError::failed("comparing the target ended early"))?;
        Ok((here?, there?))
    })
}
