//! Catch-up: brings the target from the position of its stream row to a new snapshot of the source, again and again.
//!
//! Invariant: `next` is committed before the first key of its snapshot is applied, and `pos` after the last; so a chunk that
//! reads `next` knows every key that catch-up may have brought further than the chunk's own snapshot.

use std::time::Instant;

use super::bounded::TooMuch;
use super::driver::{Batch, Claim, Driver, Guard, Outcome, Position, Source as _, Target as _};
use super::mapping::{Mapping, Stream};
use super::pace::{Filled, MOST_BYTES, Pace};
use super::way_back::WayBack;
use crate::error::MigrateError;
use crate::fail_point::FailPoints;

/// How often a batch is begun anew because a chunk that is newer than its snapshot put a row in its way.
const TRIES: u32 = 20;

/// One process's catch-up of one stream.
pub struct Follower<'a, D: Driver> {
    stream: &'a Stream,
    source: D::Source,
    target: D::Target,
    way_back: Option<WayBack<D>>,
    claim: Claim,
    points: &'a FailPoints,
    /// Keys per transaction.
    pace: Pace,
}

/// What became of a batch in one snapshot.
enum Attempt {
    Done(Caught),
    /// A row that no key dirty in this snapshot accounts for holds a unique value.
    Blocked(MigrateError),
}

/// What one batch did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caught {
    /// The target stands here now.
    pub position: Position,
    /// Keys looked at.
    pub keys: u64,
    /// Rows inserted, changed or removed.
    pub rows: u64,
}

impl<'a, D: Driver> Follower<'a, D> {
    /// Takes the stream over from whoever has it; `piece` is the most keys that one transaction takes.
    pub fn claim(
        driver: &D,
        stream: &'a Stream,
        piece: u32,
        points: &'a FailPoints,
    ) -> Result<Self, MigrateError> {
        let (source, mut target) = (driver.source()?, driver.target()?);
        let way_back = WayBack::open(driver, stream)?;
        let claim = target.claim(&stream.name)?;
        Ok(Self { stream, source, target, way_back, claim, points, pace: Pace::up_to(piece) })
    }

    /// Takes the stream over for good: it rests, so that nobody else moves it until it is woken.
    pub fn resting(
        driver: &D,
        stream: &'a Stream,
        piece: u32,
        points: &'a FailPoints,
    ) -> Result<Self, MigrateError> {
        let (source, mut target) = (driver.source()?, driver.target()?);
        let way_back = WayBack::open(driver, stream)?;
        let claim = target.rest(&stream.name)?;
        Ok(Self { stream, source, target, way_back, claim, points, pace: Pace::up_to(piece) })
    }

    /// Its claim's token.
    pub fn token(&self) -> i64 {
        self.claim.token
    }

    /// Takes the stream over once more, on the connections it has.
    pub fn claim_again(&mut self, piece: u32) -> Result<(), MigrateError> {
        self.claim = self.target.claim(&self.stream.name)?;
        self.pace = Pace::up_to(piece);
        Ok(())
    }

    /// Applies everything that changed up to now.
    ///
    /// A chunk may have a newer snapshot than the batch, and so hold a unique value that in the batch's snapshot is still
    /// another key's. That key has given it away since, so in a newer snapshot it is dirty, and the value free.
    pub fn batch(&mut self) -> Result<Caught, MigrateError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let attempt = self.batch_in_snapshot();
            let ended = self.source.end();
            let attempt = attempt?;
            ended?;
            match attempt {
                Attempt::Done(caught) => return Ok(caught),
                Attempt::Blocked(collision) if tries == TRIES => return Err(collision),
                Attempt::Blocked(_) => self.points.pass("catch_up_blocked")?,
            }
        }
    }

    fn batch_in_snapshot(&mut self) -> Result<Attempt, MigrateError> {
        let row = self.target.stream(&self.stream.name)?.ok_or_else(|| no_stream(self.stream))?;
        if row.token != self.claim.token {
            return Err(superseded(self.stream));
        }
        let position = self.source.begin(self.stream, Some(&row.fingerprint))?;
        self.source.persist_snapshot()?;
        self.points.pass("catch_up_snapshot")?;
        if !self.target.set_next(&self.claim, &position)? {
            return Err(self.lost());
        }
        self.points.pass("catch_up_next")?;
        let mut caught = Caught { position: position.clone(), keys: 0, rows: 0 };
        if !self.apply_together(&row.pos, &mut caught)? {
            for mapping in &self.stream.mappings {
                let dirty = self.source.stage_dirty(mapping, &row.pos)?;
                if dirty.whole {
                    self.stage_everything(mapping)?;
                }
                if let Some(collision) = self.apply_staged(mapping, &row.pos, &mut caught)? {
                    return Ok(Attempt::Blocked(collision));
                }
            }
        }
        if !self.target.set_pos(&self.claim, &row.pos, &position)? {
            return Err(self.lost());
        }
        self.points.pass("catch_up_pos")?;
        Ok(Attempt::Done(caught))
    }

    /// Why the claim does not hold any more.
    fn lost(&mut self) -> MigrateError {
        match self.target.stream(&self.stream.name) {
            Ok(Some(_)) => superseded(self.stream),
            Ok(None) => no_stream(self.stream),
            Err(error) => error,
        }
    }

    /// What fits one piece per mapping goes in one transaction, so that whoever reads the target meanwhile sees the tables of a
    /// key change at once. Gives false, and has done nothing, where something does not fit or collides.
    fn apply_together(&mut self, since: &Position, caught: &mut Caught) -> Result<bool, MigrateError> {
        if self.stream.mappings.len() < 2 {
            return Ok(false);
        }
        let (mut parts, mut room) = (Vec::new(), MOST_BYTES);
        for mapping in &self.stream.mappings {
            let dirty = self.source.stage_dirty(mapping, since)?;
            if dirty.whole || dirty.keys > u64::from(self.pace.size()) {
                caught.keys = 0;
                return Ok(false);
            }
            match self.source.piece(mapping, 0, self.pace.size(), room)? {
                None => {}
                Some(Err(TooMuch { .. })) => {
                    caught.keys = 0;
                    return Ok(false);
                }
                Some(Ok(batch)) => {
                    room = room.saturating_sub(super::Rows::bytes(&batch.rows));
                    caught.keys += super::Rows::len(&batch.keys);
                    parts.push((mapping, self.sift(mapping, batch)?));
                }
            }
        }
        if parts.is_empty() {
            return Ok(true);
        }
        match self.target.apply_together(&self.claim, &parts)? {
            Outcome::Written(rows) => caught.rows = rows,
            Outcome::Superseded => return Err(self.lost()),
            Outcome::Collides { .. } => {
                caught.keys = 0;
                return Ok(false);
            }
        }
        self.points.pass("catch_up_piece")?;
        Ok(true)
    }

    /// Every key that either end knows.
    fn stage_everything(&mut self, mapping: &Mapping) -> Result<(), MigrateError> {
        self.source.stage_all(mapping)?;
        let mut after = None;
        loop {
            let (keys, last) = self.target.known_keys(mapping, after.as_ref(), self.pace.size())?;
            self.source.stage(mapping, &keys)?;
            match last {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// Gives the collision that keeps the rest from being applied, if there is one.
    fn apply_staged(
        &mut self,
        mapping: &Mapping,
        since: &Position,
        caught: &mut Caught,
    ) -> Result<Option<MigrateError>, MigrateError> {
        let mut from = 0;
        loop {
            let (began, size) = (Instant::now(), self.pace.size());
            let batch = match self.source.piece(mapping, from, size, self.pace.most_bytes())? {
                None => return Ok(None),
                Some(Err(TooMuch { rows })) => {
                    self.pace.too_much(rows);
                    continue;
                }
                Some(Ok(batch)) => batch,
            };
            from += u64::from(size);
            let keys = super::Rows::len(&batch.keys);
            let (full, bytes) = (keys >= u64::from(size), super::Rows::bytes(&batch.rows));
            caught.keys += keys;
            let batch = self.sift(mapping, batch)?;
            match self.apply(mapping, since, batch)? {
                Ok(rows) => caught.rows += rows,
                Err(collision) => return Ok(Some(collision)),
            }
            self.pace.took(if full { Filled::Wholly } else { Filled::Partly }, bytes, began.elapsed());
            self.points.pass("catch_up_piece")?;
        }
    }

    /// On the way back, without the keys that nobody touched.
    fn sift(&mut self, mapping: &Mapping, batch: Batch<D::Rows>) -> Result<Batch<D::Rows>, MigrateError> {
        match &mut self.way_back {
            Some(way_back) => way_back.sift(&mut self.source, mapping, batch),
            None => Ok(batch),
        }
    }

    /// Applies a piece. If a unique value of it is still held by another key, that key has given it away in the same snapshot, or
    /// a chunk has brought it further: it joins the piece. Of any key the batch's snapshot may be written, as `pos` will say so.
    fn apply(
        &mut self,
        mapping: &Mapping,
        since: &Position,
        mut batch: Batch<D::Rows>,
    ) -> Result<Result<u64, MigrateError>, MigrateError> {
        loop {
            match self.target.apply(Guard::Claim(&self.claim), mapping, &batch)? {
                Outcome::Written(rows) => return Ok(Ok(rows)),
                Outcome::Superseded => return Err(self.lost()),
                Outcome::Collides { holders, example } => {
                    let Some(wider) = self.source.widen(mapping, &batch, &holders, since)? else {
                        return Ok(Err(collision(mapping, &example)));
                    };
                    batch = wider;
                }
            }
        }
    }
}

pub(crate) fn superseded(stream: &Stream) -> MigrateError {
    MigrateError::refused(
        format!("another process has taken the stream {} over", stream.name),
        "let that one go on; `migrate status` shows it",
    )
}

pub(crate) fn no_stream(stream: &Stream) -> MigrateError {
    MigrateError::refused(
        format!("the target knows nothing of a copy in the stream {}", stream.name),
        format!("start with `{}`", stream.command("run")),
    )
}

pub(super) fn collision(mapping: &Mapping, example: &str) -> MigrateError {
    MigrateError::refused(
        format!("rows for {} need a unique value that a row nobody changed holds: {example}", mapping.table),
        "remove the row if it is not ours, or correct the mapping: it must not make two rows with one unique value",
    )
}
