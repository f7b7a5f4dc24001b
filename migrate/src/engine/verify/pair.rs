//! The two snapshots of a comparison.
//!
//! Invariant: hold, then the target's snapshot with the position P in it, then the source's. So the log behind P is there
//! when it is asked for, and a key that is not dirty since P has in the target what the source's snapshot says.

use crate::engine::compare::{CompareSource as _, CompareTarget as _, Part, RowHash, ShownRow, Sum};
use crate::engine::driver::{Bound, Driver, Position, Source as _, StreamRow, Target as _};
use crate::engine::mapping::{Mapping, Stream};
use crate::engine::way_back::WayBack;
use crate::error::MigrateError;

/// How long the log is kept should this process die.
const HOLD_SECONDS: u32 = 900;

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

    /// Both sums, the source's and the target's, side by side in time.
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

    pub(super) fn show(
        &mut self,
        mapping: &Mapping,
        keys: &[Bound],
    ) -> Result<(Vec<ShownRow>, Vec<ShownRow>), MigrateError> {
        Ok((self.source.show(mapping, keys)?, self.target.show(mapping, keys)?))
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
