//! Backfill: copies what was there before capture, range by range, beside catch-up.
//!
//! Invariant: a chunk never overwrites what catch-up brought further. Its snapshot is registered before it is read, so the
//! log behind it is kept; and at its commit, with the stream row locked against `next` moving, it leaves out every key with
//! a log row that `next` saw and its own snapshot did not.
//!
//! A row of another key that holds a unique value of the chunk's is written together with it, as the chunk's snapshot has it:
//! which keys a snapshot is written for does not matter to the invariant, as long as those touched since are left out. In one
//! snapshot values are unique, so this ends, however fast they move at the source.

use std::collections::HashMap;
use std::time::Instant;

use super::bounded::TooMuch;
use super::catch_up::{collision, no_stream};
use super::driver::{
    Bound, ChunkDone, Driver, Guard, Joining, KeyRange, Lease, Outcome, Phase, Position, Source as _,
    StreamRow, Target as _, Touched,
};
use super::in_the_way::InTheWay;
use super::mapping::{Mapping, Stream};
use super::pace::{Filled, MOST_BYTES, Pace};
use super::way_back::WayBack;
use crate::error::MigrateError;
use crate::fail_point::FailPoints;

/// How often a chunk is read anew because a unique value of it is held by a row that catch-up has not removed yet.
const TRIES: u32 = 20;
/// How often catch-up passes a row in the way before it counts as one that stays. A value that keeps moving between two keys would
/// have to be found with the same one each time.
const PASSED: u32 = 20;
/// How often a chunk grows by rows that are in its way, before it waits for catch-up: one shift of all values would make it as
/// large as the table. Where catch-up has nothing left that could help, it does become so, in leaps.
const GROWS: u32 = 50;
/// Rows in the way that are remembered.
const REMEMBERED: usize = 1_000;

/// One worker of a backfill.
pub struct Copier<'a, D: Driver> {
    driver: &'a D,
    stream: &'a Stream,
    source: D::Source,
    /// Reads the log while a chunk's snapshot, which cannot see it grow, stays open.
    log: Option<D::Source>,
    target: D::Target,
    way_back: Option<WayBack<D>>,
    points: &'a FailPoints,
    options: CopierOptions,
    pace: Pace,
    /// What keeps the chunk that was given up last.
    blocked: Option<String>,
    /// Where catch-up stood at the last collision, if the chunk's snapshot held no change beyond it.
    collided: Option<Position>,
    growth: Growth,
    /// Rows in the way, by chunk, text and holders, each with the snapshot that met it and how often catch-up passed that.
    in_the_way: HashMap<(usize, i64, String, u64), (Position, u32)>,
}

/// How a worker copies.
#[derive(Debug, Clone, Copy)]
pub struct CopierOptions {
    /// Most keys per chunk; the first ones are smaller.
    pub chunk: u32,
    /// Seconds after which another worker takes over the chunk of one that is silent.
    pub lease_seconds: u32,
}

/// What a chunk writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Its range.
    Range,
    /// Rows in its way as well; its snapshot stays open meanwhile.
    InTheWay,
}

/// Where a chunk comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// It was made for this worker, as large as its pace allows.
    New,
    /// Somebody made it, and may have found it too large.
    LeftBehind,
}

/// What became of a chunk that was to be smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Narrowed {
    Done,
    /// It has no more keys than that.
    HasNoMore,
    /// Another worker has it.
    Lost,
}

/// A chunk's keys and rows.
struct InSnapshot<R> {
    snapshot: Position,
    /// Where catch-up stood.
    pos: Position,
    /// How many rows its range has, and their hash.
    rows: u64,
    hash: u64,
    /// What is written: on the way back, without the keys that nobody touched.
    batch: super::Batch<R>,
}

/// How a chunk takes rows in its way along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// Those alone.
    Steps,
    /// Those alone, and they were too many.
    TooManySteps,
    /// And each time as many keys as it has, so that a chain of n values that moved by one takes log n rounds.
    Leaps,
}

/// What a worker found to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A chunk with that many rows is done.
    Copied(u64),
    /// A chunk was given up, as its lease ran out or a row stood in its way; it will come again.
    Again,
    /// Other workers have what is left.
    Waiting,
    /// Everything is done.
    Done,
}

impl<'a, D: Driver> Copier<'a, D> {
    /// A worker with connections of its own.
    pub fn open(
        driver: &'a D,
        stream: &'a Stream,
        options: CopierOptions,
        points: &'a FailPoints,
    ) -> Result<Self, MigrateError> {
        Ok(Self {
            driver,
            stream,
            source: driver.source()?,
            log: None,
            target: driver.target()?,
            way_back: WayBack::open(driver, stream)?,
            points,
            options,
            pace: Pace::up_to(options.chunk),
            blocked: None,
            collided: None,
            growth: Growth::Steps,
            in_the_way: HashMap::new(),
        })
    }

    /// Copies otherwise from the next chunk on.
    pub fn set_options(&mut self, options: CopierOptions) {
        if self.options.chunk != options.chunk {
            self.pace = Pace::up_to(options.chunk);
        }
        self.options = options;
    }

    /// What kept the chunk of the last step from being written.
    pub fn blocked_by(&self) -> Option<&str> {
        self.blocked.as_deref()
    }

    /// Copies the next chunk, if there is one.
    pub fn step(&mut self) -> Result<Step, MigrateError> {
        self.blocked = None;
        let row = self.target.stream(&self.stream.name)?.ok_or_else(|| no_stream(self.stream))?;
        let Some((mut lease, origin)) = self.lease(&row)? else {
            let left = self.target.chunks_left(self.stream)?;
            return Ok(if left.done { Step::Done } else { Step::Waiting });
        };
        self.points.pass("chunk_leased")?;
        // Loading may have ended since, and taken the chunk back; while a chunk of it is held, it cannot end.
        let row = self.target.stream(&self.stream.name)?.ok_or_else(|| no_stream(self.stream))?;
        let mapping = self.stream.mappings.get(lease.mapping).ok_or_else(|| no_stream(self.stream))?;
        let mut reach = Reach::Range;
        for _ in 0..TRIES {
            let copied = self.chunk(&row, mapping, (&mut lease, origin), reach);
            if !matches!(copied, Ok(_) | Err(MigrateError::Crashed(_))) {
                // If the target is what failed, the lease runs out by itself.
                let _ = self.target.release_chunk(&lease);
            }
            match copied? {
                Some(Outcome::Written(rows)) => {
                    (self.blocked, self.growth) = (None, Growth::Steps);
                    self.points.pass("chunk_done")?;
                    return Ok(Step::Copied(rows));
                }
                Some(Outcome::Superseded) => return Ok(Step::Again),
                // The snapshot was too old.
                None => {}
                Some(Outcome::Collides { .. }) => reach = Reach::InTheWay,
            }
        }
        self.target.release_chunk(&lease)?;
        Ok(Step::Again)
    }

    fn lease(&mut self, row: &StreamRow) -> Result<Option<(Lease, Origin)>, MigrateError> {
        let Self { stream, source, target, options, pace, .. } = self;
        let mut origin = Origin::LeftBehind;
        let mut end = |mapping: &Mapping, after: Option<&super::Bound>| {
            origin = Origin::New;
            source.begin(stream, Some(&row.fingerprint))?;
            let range = KeyRange { after: after.cloned(), up_to: None };
            let end = source.range_end(mapping, &range, pace.size());
            source.end()?;
            end
        };
        let lease = target.lease_chunk(stream, options.lease_seconds, &mut end)?;
        Ok(lease.map(|lease| (lease, origin)))
    }

    /// Nothing if catch-up overtook the snapshot before it was registered.
    fn chunk(
        &mut self,
        row: &StreamRow,
        mapping: &Mapping,
        (lease, origin): (&mut Lease, Origin),
        reach: Reach,
    ) -> Result<Option<Outcome<D::Rows>>, MigrateError> {
        let began = Instant::now();
        let read = self.read_chunk(row, mapping, lease, origin);
        let lease = &*lease;
        if reach == Reach::Range || !matches!(read, Ok(Some(_))) {
            self.source.end()?;
        }
        let Some(read) = read? else { return Ok(None) };
        self.points.pass("chunk_read")?;
        if row.phase == Phase::Loading {
            let done = ChunkDone { lease, rows: read.rows, hash: read.hash };
            let loaded = self.target.load(done, mapping, &read.batch)?;
            self.learn(lease, &read.batch, began);
            return Ok(Some(if loaded { Outcome::Written(read.rows) } else { Outcome::Superseded }));
        }
        let (snapshot, pos) = (read.snapshot.clone(), read.pos.clone());
        let outcome = match reach {
            Reach::Range => {
                let outcome = self.write_range(mapping, lease, &read)?;
                self.learn(lease, &read.batch, began);
                outcome
            }
            Reach::InTheWay => {
                let outcome = self.write_with_holders(row, mapping, lease, read);
                self.source.end()?;
                outcome?
            }
        };
        if let Outcome::Collides { example, holders } = &outcome {
            self.blocked = Some(example.clone());
            // Whether it stays is seen once what is ours has joined.
            if reach == Reach::Range {
                return Ok(Some(outcome));
            }
            let held = holders.as_ref().map_or(0, super::Rows::hash);
            let passed = self.passed(lease, example, held, &snapshot)?;
            let caught_up_at = self.has_all(mapping, &snapshot, &pos)?.then_some(pos);
            let collision = collision(mapping, holders.as_ref(), example);
            self.refuse_standing_collision(collision, lease, caught_up_at, passed)?;
        }
        Ok(Some(outcome))
    }

    fn write_range(
        &mut self,
        mapping: &Mapping,
        lease: &Lease,
        read: &InSnapshot<D::Rows>,
    ) -> Result<Outcome<D::Rows>, MigrateError> {
        let Self { source, target, stream, .. } = self;
        let mut touched = |next: &Position| source.touched(mapping, next, &read.snapshot);
        let guard = Guard::GivingWay {
            stream: &stream.name,
            chunk: Some(ChunkDone { lease, rows: read.rows, hash: read.hash }),
            touched: &mut touched,
        };
        target.apply(guard, mapping, &read.batch)
    }

    /// Writes the range, and whatever of ours holds a value that it needs, and so on.
    fn write_with_holders(
        &mut self,
        row: &StreamRow,
        mapping: &Mapping,
        lease: &Lease,
        read: InSnapshot<D::Rows>,
    ) -> Result<Outcome<D::Rows>, MigrateError> {
        let InSnapshot { snapshot, pos, rows, hash, mut batch } = read;
        let mut log = match self.log.take() {
            Some(log) => log,
            None => self.open_log(row)?,
        };
        let chunk = ChunkDone { lease, rows, hash };
        let (mut grown, mut behind) = (0, lease.range.up_to.clone());
        let outcome = loop {
            let mut touched = |next: &Position| log.touched(mapping, next, &snapshot);
            let stream = &self.stream.name;
            let guard = Guard::GivingWay { stream, chunk: Some(chunk), touched: &mut touched };
            let outcome = self.target.apply(guard, mapping, &batch)?;
            let Outcome::Collides { holders: Some(holders), .. } = &outcome else { break outcome };
            if grown == GROWS {
                self.growth = Growth::TooManySteps;
                break outcome;
            }
            grown += 1;
            let Self { source, target, way_back, stream, .. } = self;
            let in_the_way = InTheWay::<D> { source, target, way_back: way_back.as_mut(), stream, mapping };
            match in_the_way.join(&batch, holders, &pos)? {
                Some(wider) if self.growth == Growth::Leaps => {
                    batch = self.leap(mapping, wider, &mut behind)?
                }
                Some(wider) => batch = wider,
                None => break outcome,
            }
        };
        self.log = Some(log);
        Ok(outcome)
    }

    /// The batch with as many of the next keys as it has; behind the last come the first.
    fn leap(
        &mut self,
        mapping: &Mapping,
        batch: super::Batch<D::Rows>,
        behind: &mut Option<Bound>,
    ) -> Result<super::Batch<D::Rows>, MigrateError> {
        let size = u32::try_from(super::Rows::len(&batch.keys)).unwrap_or(u32::MAX);
        let mut range = KeyRange { after: behind.take(), up_to: None };
        range.up_to = self.source.range_end(mapping, &range, size)?;
        behind.clone_from(&range.up_to);
        let Ok(mut next) = self.source.range(mapping, &range, u64::MAX)? else { return Ok(batch) };
        if let Some(way_back) = &mut self.way_back {
            next = way_back.sift(&mut self.source, mapping, next, None)?;
        }
        Ok(self.source.widen(mapping, &batch, &next.keys, Joining::All)?.unwrap_or(batch))
    }

    fn open_log(&self, row: &StreamRow) -> Result<D::Source, MigrateError> {
        let mut log = self.driver.source()?;
        log.begin(self.stream, Some(&row.fingerprint))?;
        log.end()?;
        Ok(log)
    }

    fn learn(&mut self, lease: &Lease, batch: &super::Batch<D::Rows>, began: Instant) {
        let filled = if lease.range.up_to.is_some() { Filled::Wholly } else { Filled::Partly };
        self.pace.took(filled, super::Rows::bytes(&batch.rows), began.elapsed());
    }

    /// How often catch-up passed a snapshot that met this row in the way, and the row was still there.
    fn passed(
        &mut self,
        lease: &Lease,
        example: &str,
        holders: u64,
        snapshot: &Position,
    ) -> Result<u32, MigrateError> {
        let row = self.target.stream(&self.stream.name)?.ok_or_else(|| no_stream(self.stream))?;
        if self.in_the_way.len() >= REMEMBERED {
            self.in_the_way.clear();
        }
        let place = (lease.mapping, lease.chunk, example.to_owned(), holders);
        let met = self.in_the_way.entry(place).or_insert_with(|| (snapshot.clone(), 0));
        if self.source.covers(&row.pos, &met.0)? {
            *met = (snapshot.clone(), met.1 + 1);
        }
        Ok(met.1)
    }

    /// Whether nothing of the mapping that the snapshot saw is left to catch-up, which still stands at `pos`. The snapshot
    /// itself may be another: heartbeats and other tables move it too.
    fn has_all(
        &mut self,
        mapping: &Mapping,
        snapshot: &Position,
        pos: &Position,
    ) -> Result<bool, MigrateError> {
        if snapshot == pos {
            return Ok(true);
        }
        // If catch-up has moved on, the log behind `pos` may be gone.
        let now = self.target.stream(&self.stream.name)?;
        if now.is_none_or(|now| now.pos != *pos) {
            return Ok(false);
        }
        match self.source.touched(mapping, snapshot, pos) {
            Ok(touched) => Ok(matches!(touched, Touched::Keys(keys) if super::Rows::is_empty(&keys))),
            Err(MigrateError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A row in the way is there to stay if catch-up passed it often enough, or if nothing changed between two collisions and
    /// catch-up has nothing left to do: what any worker wrote before the second is of no newer snapshot. Unless they were too many.
    fn refuse_standing_collision(
        &mut self,
        collision: MigrateError,
        lease: &Lease,
        caught_up_at: Option<Position>,
        passed: u32,
    ) -> Result<(), MigrateError> {
        let stays = passed >= PASSED || (caught_up_at.is_some() && self.collided == caught_up_at);
        if stays && self.growth == Growth::TooManySteps {
            self.growth = Growth::Leaps;
            return Ok(());
        }
        if stays {
            self.target.release_chunk(lease)?;
            return Err(collision);
        }
        self.collided = caught_up_at;
        Ok(())
    }

    fn read_chunk(
        &mut self,
        row: &StreamRow,
        mapping: &Mapping,
        lease: &mut Lease,
        origin: Origin,
    ) -> Result<Option<InSnapshot<D::Rows>>, MigrateError> {
        let snapshot = self.source.begin(self.stream, Some(&row.fingerprint))?;
        self.source.persist_snapshot()?;
        self.points.pass("chunk_snapshot")?;
        if !self.target.register_chunk(lease, &snapshot)? {
            return Ok(None);
        }
        self.points.pass("chunk_registered")?;
        // From here on pruning keeps what this snapshot needs. If catch-up passed it before, the log may be gone already.
        let now = self.target.stream(&self.stream.name)?.ok_or_else(|| no_stream(self.stream))?;
        if !self.source.covers(&snapshot, &now.pos)? {
            return Ok(None);
        }
        if origin == Origin::LeftBehind && self.narrow(mapping, lease, self.pace.size())? == Narrowed::Lost {
            return Ok(None);
        }
        let Some(batch) = self.read_bounded(row.phase, mapping, lease)? else { return Ok(None) };
        let (rows, hash) = (super::Rows::len(&batch.rows), super::Rows::hash(&batch.rows));
        let batch = match &mut self.way_back {
            Some(way_back) if row.phase != Phase::Loading => {
                way_back.sift(&mut self.source, mapping, batch, None)?
            }
            _ => batch,
        };
        Ok(Some(InSnapshot { pos: now.pos, snapshot, rows, hash, batch }))
    }

    /// Reads the chunk; if it holds more bytes than it may, it is made smaller first. Nothing if the lease ran out.
    fn read_bounded(
        &mut self,
        phase: Phase,
        mapping: &Mapping,
        lease: &mut Lease,
    ) -> Result<Option<super::Batch<D::Rows>>, MigrateError> {
        let mut most = MOST_BYTES;
        loop {
            let read = match phase {
                Phase::Loading => self.source.range_to_load(mapping, &lease.range, most)?,
                _ => self.source.range(mapping, &lease.range, most)?,
            };
            let rows = match read {
                Ok(batch) => return Ok(Some(batch)),
                Err(TooMuch { rows }) => rows,
            };
            self.pace.too_much(rows);
            loop {
                match self.narrow(mapping, lease, self.pace.size())? {
                    Narrowed::Lost => return Ok(None),
                    Narrowed::Done => break,
                    // One key, whose rows cannot be parted.
                    Narrowed::HasNoMore if self.pace.size() == 1 => {
                        most = u64::MAX;
                        break;
                    }
                    // Keys of several rows.
                    Narrowed::HasNoMore => self.pace.too_much(0),
                }
            }
        }
    }

    /// Leaves what is behind the chunk's first `size` keys to others.
    fn narrow(&mut self, mapping: &Mapping, lease: &mut Lease, size: u32) -> Result<Narrowed, MigrateError> {
        let end = self.source.range_end(mapping, &lease.range, size)?;
        let Some(end) = end.filter(|end| lease.range.up_to.as_ref() != Some(end)) else {
            return Ok(Narrowed::HasNoMore);
        };
        if !self.target.split_chunk(lease, &end)? {
            return Ok(Narrowed::Lost);
        }
        lease.range.up_to = Some(end);
        Ok(Narrowed::Done)
    }
}
