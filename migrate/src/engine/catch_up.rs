//! Catch-up: brings the target from the position of its stream row to a new snapshot of the source, again and again.
//!
//! Invariant: `next` is committed before the first key of its snapshot is applied, and `pos` after the last; so a chunk that
//! reads `next` knows every key that catch-up may have brought further than the chunk's own snapshot.

use super::driver::{Batch, Claim, Driver, Guard, Outcome, Position, Source as _, Target as _};
use super::mapping::{Mapping, Stream};
use crate::error::MigrateError;
use crate::fail_point::FailPoints;

/// One process's catch-up of one stream.
pub struct Follower<'a, D: Driver> {
    stream: &'a Stream,
    source: D::Source,
    target: D::Target,
    claim: Claim,
    points: &'a FailPoints,
    /// Keys per transaction.
    piece: u32,
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
    /// Takes the stream over from whoever has it.
    pub fn claim(
        driver: &D,
        stream: &'a Stream,
        piece: u32,
        points: &'a FailPoints,
    ) -> Result<Self, MigrateError> {
        let (source, mut target) = (driver.source()?, driver.target()?);
        let claim = target.claim(&stream.name)?;
        Ok(Self { stream, source, target, claim, points, piece })
    }

    /// Its claim's token.
    pub fn token(&self) -> i64 {
        self.claim.token
    }

    /// Applies everything that changed up to now.
    pub fn batch(&mut self) -> Result<Caught, MigrateError> {
        let caught = self.batch_in_snapshot();
        let ended = self.source.end();
        let caught = caught?;
        ended?;
        Ok(caught)
    }

    fn batch_in_snapshot(&mut self) -> Result<Caught, MigrateError> {
        let row = self.target.stream(&self.stream.name)?.ok_or_else(|| no_stream(self.stream))?;
        if row.token != self.claim.token {
            return Err(superseded(self.stream));
        }
        let position = self.source.begin(self.stream, Some(&row.fingerprint))?;
        self.source.persist_snapshot()?;
        self.points.pass("catch_up_snapshot")?;
        if !self.target.set_next(&self.claim, &position)? {
            return Err(superseded(self.stream));
        }
        self.points.pass("catch_up_next")?;
        let mut caught = Caught { position: position.clone(), keys: 0, rows: 0 };
        for mapping in &self.stream.mappings {
            let dirty = self.source.stage_dirty(mapping, &row.pos)?;
            if dirty.whole {
                self.stage_everything(mapping)?;
            }
            self.apply_staged(mapping, &mut caught)?;
        }
        if !self.target.set_pos(&self.claim, &row.pos, &position)? {
            return Err(superseded(self.stream));
        }
        self.points.pass("catch_up_pos")?;
        Ok(caught)
    }

    /// Every key that either end knows.
    fn stage_everything(&mut self, mapping: &Mapping) -> Result<(), MigrateError> {
        self.source.stage_all(mapping)?;
        let mut after = None;
        loop {
            let (keys, last) = self.target.known_keys(mapping, after.as_ref(), self.piece)?;
            self.source.stage(mapping, &keys)?;
            match last {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    fn apply_staged(&mut self, mapping: &Mapping, caught: &mut Caught) -> Result<(), MigrateError> {
        let mut from = 0;
        while let Some(batch) = self.source.piece(mapping, from, self.piece)? {
            from += u64::from(self.piece);
            caught.keys += super::Rows::len(&batch.keys);
            caught.rows += self.apply(mapping, batch)?;
            self.points.pass("catch_up_piece")?;
        }
        Ok(())
    }

    /// Applies a piece. If a unique value of it is still held by another key, that key has given it away in the same snapshot,
    /// and so is dirty as well: it joins the piece.
    fn apply(&mut self, mapping: &Mapping, mut batch: Batch<D::Rows>) -> Result<u64, MigrateError> {
        loop {
            match self.target.apply(Guard::Claim(&self.claim), mapping, &batch)? {
                Outcome::Written(rows) => return Ok(rows),
                Outcome::Superseded => return Err(superseded(self.stream)),
                Outcome::Collides { holders, example } => {
                    batch = self
                        .source
                        .widen(mapping, &batch, &holders)?
                        .ok_or_else(|| collision(mapping, &example))?;
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
        format!("nothing was ever copied in the stream {}", stream.name),
        "start with `migrate run`",
    )
}

fn collision(mapping: &Mapping, example: &str) -> MigrateError {
    MigrateError::refused(
        format!("rows for {} need a unique value that a row nobody changed holds: {example}", mapping.table),
        "remove the row if it is not ours, or correct the mapping: it must not make two rows with one unique value",
    )
}
