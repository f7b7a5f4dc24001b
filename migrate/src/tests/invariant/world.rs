//! Two databases that serve one seed after the other, and the workers on them.
//!
//! Invariant: a seed begins with empty tables, a new stream row and no worker in the middle of anything, so it depends on
//! nothing that ran before it.

use std::fmt::Write as _;
use std::sync::Arc;

use super::random::Random;
use super::worker::{Event, Order, Sizes, Worker};
use crate::engine::backfill::Step;
use crate::engine::in_the_way::ADOPTED;
use crate::engine::{Driver, Phase, Position, Source as _, Stream, StreamRow, Target as _};
use crate::error::MigrateError;

const FOLLOWERS: std::ops::Range<usize> = 0..2;
const COPIERS: std::ops::Range<usize> = 2..4;
/// Steps of chance before everything is let run to its end.
const STEPS: u64 = 50;
/// Tasks within which everything must have come to its end.
const PATIENCE: u32 = 300;

/// What the simulation needs of a dialect.
pub(super) trait Ends {
    /// The driver that is tried.
    type Driver: Driver + Clone + 'static;
    /// Once in how many times a stream begins with loading.
    const LOADS_ONCE_IN: u64;
    /// Once in how many deaths of a worker, and failures for a lock, its connections are closed as well.
    const CLOSES_ONCE_IN: u64;

    fn driver(&self) -> &Self::Driver;
    fn stream(&self) -> &Arc<Stream>;
    /// Empties both ends, the stream's row and its chunks.
    fn empty(&mut self);
    /// Takes a step as the application; returns what it was.
    fn write(&mut self, random: &mut Random) -> String;
    /// Ends every transaction that the application has open.
    fn settle(&mut self) {}
    /// Lets every lease run out.
    fn expire(&mut self);
    /// Keys that are neither equal nor dirty, in words.
    fn violations(&mut self) -> Vec<String>;
    /// Keys that are not equal.
    fn differences(&mut self) -> Vec<String>;
}

type SourceOf<E> = <<E as Ends>::Driver as Driver>::Source;
type TargetOf<E> = <<E as Ends>::Driver as Driver>::Target;

pub(super) struct World<E: Ends> {
    ends: E,
    stream: Arc<Stream>,
    source: SourceOf<E>,
    target: TargetOf<E>,
    workers: Vec<Worker>,
    random: Random,
    fingerprint: Option<String>,
    sizes: Sizes,
    phase: Phase,
    /// What a pruner read and has not acted on yet.
    needed: Option<Vec<Position>>,
    /// Rows of the target or its position may have changed since they were looked at.
    look: bool,
    pub(super) history: String,
}

impl<E: Ends> World<E> {
    pub(super) fn new(ends: E) -> Self {
        let stream = Arc::clone(ends.stream());
        let (mut source, mut target) = (ends.driver().source().unwrap(), ends.driver().target().unwrap());
        source.install_capture(&stream).unwrap();
        target.prepare(&stream).unwrap();
        let workers =
            (0..COPIERS.end).map(|_| Worker::start(ends.driver(), &stream, E::CLOSES_ONCE_IN)).collect();
        Self {
            ends,
            stream,
            source,
            target,
            workers,
            random: Random(0),
            fingerprint: None,
            sizes: Sizes { chunk: 1, lease_seconds: 0 },
            phase: Phase::Following,
            needed: None,
            look: true,
            history: String::new(),
        }
    }

    /// One seed from its beginning to its end; what went wrong, if anything did.
    pub(super) fn run(&mut self, seed: u64) -> Result<(), String> {
        self.begin(seed);
        let mut actor = 0;
        for _ in 0..STEPS {
            // Bursts: one of two that take turns never gets far ahead of the other.
            if self.random.once_in(2) {
                actor = self.random.below(20);
            }
            self.step(actor)?;
        }
        self.finish()?;
        let differences = self.ends.differences();
        if differences.is_empty() { Ok(()) } else { Err(format!("differs in the end: {differences:?}")) }
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        writeln!(self.history, "{what}").unwrap();
    }

    fn begin(&mut self, seed: u64) {
        self.history.clear();
        self.random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        self.needed = None;
        for worker in &mut self.workers {
            while worker.busy {
                worker.order(Order::Crash);
            }
            worker.order(Order::Forget);
        }
        self.ends.empty();
        for _ in 0..4 {
            self.write();
        }
        self.sizes = Sizes {
            chunk: 1 + u32::try_from(self.random.below(3)).unwrap(),
            lease_seconds: if self.random.once_in(2) { 0 } else { 1_000 },
        };
        self.phase = if self.random.once_in(E::LOADS_ONCE_IN) { Phase::Loading } else { Phase::Following };
        // Where all rows count as ours, more of them are written over, and nothing else may differ.
        let adopted = ((seed / 8) % 5 == 2).then_some("yes");
        self.target.set_note(&self.stream.name, ADOPTED, adopted).unwrap();
        self.create_stream();
        for _ in 0..2 {
            self.write();
        }
    }

    fn create_stream(&mut self) {
        // Nobody alters a table here; all that a schema says is read only for the first seed.
        let pos = self.source.begin(&self.stream, self.fingerprint.as_deref()).unwrap();
        let read = |source: &mut SourceOf<E>| source.fingerprint(&self.stream).unwrap();
        let fingerprint = self.fingerprint.get_or_insert_with(|| read(&mut self.source)).clone();
        self.source.end().unwrap();
        if self.phase == Phase::Loading {
            self.target.begin_loading(&self.stream).unwrap();
        }
        let (next, mapping_hash) = (pos.clone(), self.stream.hash());
        let row = StreamRow { pos, next, token: 0, phase: self.phase, mapping_hash, fingerprint };
        self.target.create_stream(&self.stream.name, &row).unwrap();
    }

    fn write(&mut self) {
        let done = self.ends.write(&mut self.random);
        self.note(format_args!("write: {done}"));
    }

    fn step(&mut self, actor: u64) -> Result<(), String> {
        match actor {
            0..5 => self.write(),
            5..7 => self.prune()?,
            7..9 => self.advance(FOLLOWERS.start)?,
            9..14 => self.advance(FOLLOWERS.start + 1)?,
            14..16 => self.advance(COPIERS.start)?,
            _ => self.advance(COPIERS.start + 1)?,
        }
        self.check()
    }

    /// Reads what is needed now and prunes later, as a pruner that was held up between the two.
    fn prune(&mut self) -> Result<(), String> {
        let needed = self.target.needed_positions(&self.stream.name).map_err(|error| error.to_string())?;
        let needed =
            self.needed.replace(needed).filter(|_| self.random.once_in(2)).or_else(|| self.needed.take());
        let Some(needed) = needed else { return Ok(()) };
        let pruned = self.source.prune(&self.stream, &needed).map_err(|error| error.to_string())?;
        self.note(format_args!("prune to {needed:?}: {pruned}"));
        Ok(())
    }

    fn advance(&mut self, worker: usize) -> Result<(), String> {
        let following = FOLLOWERS.contains(&worker);
        if following && self.phase == Phase::Loading {
            return Ok(());
        }
        let crash = self.random.once_in(40);
        let closes = crash && (E::CLOSES_ONCE_IN == 1 || self.random.once_in(E::CLOSES_ONCE_IN));
        let order = match (self.workers[worker].busy, crash) {
            (_, true) if closes => Order::Crash,
            (_, true) => Order::Abandon,
            (true, false) => Order::GoOn,
            (false, false) if following => {
                Order::Follow { piece: 1 + u32::try_from(self.random.below(2)).unwrap() * 2 }
            }
            (false, false) => Order::Copy(self.sizes),
        };
        self.order(worker, order).map(drop)
    }

    /// Gives an order; true if a copier has nothing left to do.
    fn order(&mut self, worker: usize, order: Order) -> Result<bool, String> {
        let event = self.workers[worker].order(order);
        self.note(format_args!("{worker} {order:?}: {event:?}"));
        self.look |= may_have_written(&event);
        match event {
            Event::At(_) | Event::Idle | Event::Followed(Ok(())) => Ok(false),
            Event::Followed(Err(error)) | Event::Copied(Err(error)) if expected(&error) => Ok(false),
            Event::Followed(Err(error)) | Event::Copied(Err(error)) => {
                Err(format!("worker {worker}: {error}"))
            }
            Event::Copied(Ok(Step::Done)) => self.copied(),
            Event::Copied(Ok(_)) => Ok(false),
        }
    }

    /// Whether that is all: loading may leave chunks that are to be copied anew.
    fn copied(&mut self) -> Result<bool, String> {
        if self.phase == Phase::Following {
            return Ok(true);
        }
        self.target.finish_loading(&self.stream).map_err(|error| error.to_string())?;
        (self.phase, self.look) = (Phase::Following, true);
        self.note(format_args!("loaded"));
        Ok(false)
    }

    /// Lets everything run to its end, without writers.
    fn finish(&mut self) -> Result<(), String> {
        self.ends.settle();
        for worker in 0..self.workers.len() {
            while self.workers[worker].busy {
                self.order(worker, Order::GoOn)?;
                self.check()?;
            }
        }
        self.ends.expire();
        let (follower, copier) = (FOLLOWERS.start, COPIERS.start);
        for round in 0..PATIENCE {
            if self.phase == Phase::Following && round % 4 == 0 {
                self.complete(follower, Order::Follow { piece: 3 })?;
            }
            if self.complete(copier, Order::Copy(Sizes { chunk: 3, lease_seconds: 0 }))? {
                return self.complete(follower, Order::Follow { piece: 3 }).map(drop);
            }
        }
        Err("it does not come to an end".to_owned())
    }

    fn complete(&mut self, worker: usize, order: Order) -> Result<bool, String> {
        let mut done = self.order(worker, order)?;
        self.check()?;
        while self.workers[worker].busy {
            done = self.order(worker, Order::GoOn)?;
            self.check()?;
        }
        Ok(done)
    }

    /// The invariant, after every commit of the target.
    fn check(&mut self) -> Result<(), String> {
        if !std::mem::take(&mut self.look) {
            return Ok(());
        }
        let violations = self.ends.violations();
        if violations.is_empty() { Ok(()) } else { Err(format!("neither equal nor dirty: {violations:?}")) }
    }
}

/// Every commit of the target that matters is followed by one of the points that are not listed here.
fn may_have_written(event: &Event) -> bool {
    match event {
        Event::At(point) => ![
            "catch_up_snapshot",
            "catch_up_next",
            "catch_up_wider",
            "catch_up_blocked",
            "chunk_leased",
            "chunk_snapshot",
            "chunk_registered",
            "chunk_read",
        ]
        .contains(point),
        Event::Followed(done) => done.is_err(),
        Event::Copied(done) => done.is_err(),
        Event::Idle => false,
    }
}

/// A worker may die, may be replaced, and may have to wait.
fn expected(error: &MigrateError) -> bool {
    matches!(error, MigrateError::Crashed(_) | MigrateError::Unreachable { .. })
        || error.to_string().contains("has taken the stream")
}
