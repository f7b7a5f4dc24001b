//! Catch-up: brings the target from the position of its stream row to a new snapshot of the source, again and again.
//!
//! Invariant: `next` is committed before the first key of its snapshot is applied, and `pos` after the last; so a chunk that
//! reads `next` knows every key that catch-up may have brought further than the chunk's own snapshot.

use std::time::Instant;

use super::bounded::TooMuch;
use super::driver::{
    Batch, Claim, Dirty, Driver, Guard, Joining, Outcome, Position, Source as _, Target as _,
};
use super::in_the_way::InTheWay;
use super::mapping::{Mapping, Stream};
use super::pace::{Filled, MOST_BYTES, Pace};
use super::run::Stop;
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
    /// Ends a batch between two transactions.
    stop: Option<&'a Stop>,
}

/// What became of a batch in one snapshot.
enum Attempt {
    Done(Caught),
    /// A row that no key dirty in this snapshot accounts for holds a unique value.
    Blocked(MigrateError),
}

/// Why a mapping's keys are not all applied.
enum Halt {
    Blocked(MigrateError),
    Stopped,
}

/// What one batch did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caught {
    /// Whether nothing is left of what had changed; false if it was told to stop on the way.
    pub whole: bool,
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
        Ok(Self { stream, source, target, way_back, claim, points, pace: Pace::up_to(piece), stop: None })
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
        Ok(Self { stream, source, target, way_back, claim, points, pace: Pace::up_to(piece), stop: None })
    }

    /// The same, ending its batches early once told to stop: what is left of one is found again, as `pos` stays where it was.
    pub fn heeding(self, stop: &'a Stop) -> Self {
        Self { stop: Some(stop), ..self }
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
        let row = self.target.stream(&self.stream.name)?.ok_or_else(|| forgotten(self.stream))?;
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
        let mut caught = Caught { whole: true, position: position.clone(), keys: 0, rows: 0 };
        if !self.apply_together(&row.pos, &mut caught)? {
            for mapping in &self.stream.mappings {
                let dirty = self.source.stage_dirty(mapping, &row.pos)?;
                if dirty.whole {
                    self.stage_everything(mapping)?;
                }
                match self.apply_staged(mapping, dirty, &row.pos, &mut caught)? {
                    None => {}
                    Some(Halt::Blocked(collision)) => return Ok(Attempt::Blocked(collision)),
                    Some(Halt::Stopped) => {
                        return Ok(Attempt::Done(Caught { whole: false, position: row.pos, ..caught }));
                    }
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
            Ok(None) => forgotten(self.stream),
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
                    parts.push((mapping, self.sift(mapping, batch, Some(since))?));
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

    /// Gives what keeps the rest from being applied, if there is anything.
    fn apply_staged(
        &mut self,
        mapping: &Mapping,
        dirty: Dirty,
        since: &Position,
        caught: &mut Caught,
    ) -> Result<Option<Halt>, MigrateError> {
        let mut from = 0;
        loop {
            if self.stop.is_some_and(Stop::is_stopped) {
                return Ok(Some(Halt::Stopped));
            }
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
            let logged = (!dirty.whole).then_some(since);
            let batch = self.sift(mapping, batch, logged)?;
            match self.apply(mapping, (since, logged), batch, from)? {
                Ok(rows) => caught.rows += rows,
                Err(halt) => return Ok(Some(halt)),
            }
            self.pace.took(if full { Filled::Wholly } else { Filled::Partly }, bytes, began.elapsed());
            self.points.pass("catch_up_piece")?;
        }
    }

    /// On the way back, without the keys that nobody touched; `logged` is where the log begins that names the keys, if one does.
    fn sift(
        &mut self,
        mapping: &Mapping,
        batch: Batch<D::Rows>,
        logged: Option<&Position>,
    ) -> Result<Batch<D::Rows>, MigrateError> {
        match &mut self.way_back {
            Some(way_back) => way_back.sift(&mut self.source, mapping, batch, logged),
            None => Ok(batch),
        }
    }

    /// Applies a piece. If a unique value of it is still held by another key, that key has given it away in the same snapshot, or
    /// a chunk has brought it further: it joins the piece. Of any key the batch's snapshot may be written, as `pos` will say so.
    ///
    /// Where many values moved by one, each that joins needs the value of the next. So from the second round on as many staged
    /// keys as the piece has join with the holders, and a chain of n keys takes log n rounds. They are the next of the stage,
    /// `ahead`, and come again as pieces of their own, which find nothing to do.
    fn apply(
        &mut self,
        mapping: &Mapping,
        (since, logged): (&Position, Option<&Position>),
        mut batch: Batch<D::Rows>,
        mut ahead: u64,
    ) -> Result<Result<u64, Halt>, MigrateError> {
        let mut is_chain = false;
        loop {
            let (holders, example) = match self.target.apply(Guard::Claim(&self.claim), mapping, &batch)? {
                Outcome::Written(rows) => return Ok(Ok(rows)),
                Outcome::Superseded => return Err(self.lost()),
                Outcome::Collides { holders, example } => (holders, example),
            };
            if self.stop.is_some_and(Stop::is_stopped) {
                return Ok(Err(Halt::Stopped));
            }
            let Self { source, target, way_back, stream, .. } = self;
            let in_the_way = InTheWay::<D> { source, target, way_back: way_back.as_mut(), stream, mapping };
            let wider = match &holders {
                Some(holders) => in_the_way.join(&batch, holders, since)?,
                None => None,
            };
            let Some(wider) = wider else {
                return Ok(Err(Halt::Blocked(collision(mapping, holders.as_ref(), &example))));
            };
            batch = if is_chain { self.double(mapping, logged, wider, &mut ahead)? } else { wider };
            is_chain = true;
            self.points.pass("catch_up_wider")?;
        }
    }

    /// The batch with as many more staged keys as it has, if there are any.
    fn double(
        &mut self,
        mapping: &Mapping,
        logged: Option<&Position>,
        batch: Batch<D::Rows>,
        ahead: &mut u64,
    ) -> Result<Batch<D::Rows>, MigrateError> {
        let size = u32::try_from(super::Rows::len(&batch.keys)).unwrap_or(u32::MAX);
        // A batch of the keys of a chain is bounded by nothing but the chain.
        let Some(Ok(next)) = self.source.piece(mapping, *ahead, size, u64::MAX)? else { return Ok(batch) };
        *ahead += u64::from(size);
        let next = self.sift(mapping, next, logged)?;
        Ok(self.source.widen(mapping, &batch, &next.keys, Joining::All)?.unwrap_or(batch))
    }
}

pub(crate) fn superseded(stream: &Stream) -> MigrateError {
    MigrateError::refused(
        format!("another process has taken the stream {} over", stream.name),
        "let that one go on; `migrate status` shows it",
    )
}

/// What was followed is gone.
pub(crate) fn forgotten(stream: &Stream) -> MigrateError {
    MigrateError::refused(
        format!(
            "another process has ended the copy of the stream {} meanwhile, or begins it anew",
            stream.name
        ),
        format!(
            "`migrate status` shows whether it goes on; if it does not, `{}` begins anew",
            stream.command("run")
        ),
    )
}

pub(crate) fn no_stream(stream: &Stream) -> MigrateError {
    MigrateError::refused(
        format!("the target knows nothing of a copy in the stream {}", stream.name),
        format!("start with `{}`", stream.command("run")),
    )
}

pub(super) fn collision<R>(mapping: &Mapping, holders: Option<&R>, example: &str) -> MigrateError {
    if holders.is_none() {
        return MigrateError::refused(
            format!(
                "rows for {} need a unique value that is taken, and no row of another key was found that holds it: {example}",
                mapping.table
            ),
            "correct the mapping if it makes two rows with one unique value, or the table if it is stricter than the source",
        );
    }
    MigrateError::refused(
        format!("rows for {} need a unique value that a row nobody changed holds: {example}", mapping.table),
        "remove the row if it is not ours, or correct the mapping: it must not make two rows with one unique value",
    )
}
