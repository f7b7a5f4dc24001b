//! Two database files that serve one seed after the other, and the workers on them.
//!
//! Invariant: a seed begins with empty tables, a new stream row and no worker in the middle of anything, so it depends on
//! nothing that ran before it.

use std::fmt::Write as _;
use std::sync::Arc;

use rusqlite::Connection;
use tempfile::TempDir;

use super::random::Random;
use super::schema::{self, SOURCE_TABLES, TARGET_TABLES, Variant, differences, rows, stream, violations};
use super::worker::{Event, Order, Sizes, Worker};
use super::writer::transact;
use crate::drivers::sqlite::{Durability, SqliteDriver, SqliteOptions, SqliteSource, SqliteTarget};
use crate::engine::backfill::Step;
use crate::engine::{Driver as _, Mapping, Phase, Position, Source as _, Stream, StreamRow, Target as _};
use crate::error::MigrateError;

const FOLLOWERS: std::ops::Range<usize> = 0..2;
const COPIERS: std::ops::Range<usize> = 2..4;
/// Steps of chance before everything is let run to its end.
const STEPS: u64 = 50;
/// Tasks within which everything must have come to its end.
const PATIENCE: u32 = 300;

pub(super) struct World {
    _folder: TempDir,
    variant: &'static Variant,
    differences: String,
    violations: String,
    stream: Arc<Stream>,
    application: Connection,
    checker: Connection,
    service: Connection,
    source: SqliteSource,
    target: SqliteTarget,
    workers: Vec<Worker>,
    random: Random,
    sizes: Sizes,
    phase: Phase,
    /// What a pruner read and has not acted on yet.
    needed: Option<Vec<Position>>,
    seen_version: i64,
    pub(super) history: String,
}

fn forgetful(conn: &Connection) {
    conn.execute_batch("PRAGMA synchronous = off").unwrap();
    conn.set_prepared_statement_cache_capacity(4096);
}

impl World {
    pub(super) fn new(variant: &'static Variant) -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let [from, to] = ["source.db", "target.db"].map(|name| folder.path().join(name));
        let create = |path: &std::path::Path, sql: &str| {
            let conn = Connection::open(path).unwrap();
            conn.execute_batch("PRAGMA journal_mode = wal; PRAGMA foreign_keys = on").unwrap();
            conn.execute_batch(sql).unwrap();
            forgetful(&conn);
            conn
        };
        let (application, service) = (create(&from, schema::SOURCE), create(&to, schema::TARGET));
        let options = SqliteOptions { durability: Durability::Forgotten, ..SqliteOptions::default() };
        let driver = SqliteDriver::new(&from, &to, options);
        let stream = Arc::new(stream(variant));
        let (mut source, mut target) = (driver.source().unwrap(), driver.target().unwrap());
        source.install_capture(&stream).unwrap();
        target.prepare(&stream).unwrap();
        let checker = Connection::open_in_memory().unwrap();
        for (file, name) in [(&from, "source"), (&to, "target")] {
            checker.execute(&format!("ATTACH ?1 AS {name}"), [file.display().to_string()]).unwrap();
        }
        let workers = (0..COPIERS.end).map(|_| Worker::start(&driver, &stream)).collect();
        Self {
            _folder: folder,
            variant,
            differences: differences(variant),
            violations: violations(variant),
            stream,
            application,
            checker,
            service,
            source,
            target,
            workers,
            random: Random(0),
            sizes: Sizes { chunk: 1, lease_seconds: 0 },
            phase: Phase::Following,
            needed: None,
            seen_version: -1,
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
        let differences = rows(&self.checker, &self.differences);
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
        for conn in [&self.application, &self.service] {
            conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        }
        for table in SOURCE_TABLES {
            self.application.prepare_cached(&format!("DELETE FROM {table}")).unwrap().execute([]).unwrap();
        }
        let map = self.stream.mappings.iter().any(Mapping::needs_key_map).then_some(&"banyan_keys:holder");
        for table in TARGET_TABLES.iter().chain(map) {
            self.service.prepare_cached(&format!("DELETE FROM \"{table}\"")).unwrap().execute([]).unwrap();
        }
        for conn in [&self.application, &self.service] {
            conn.execute_batch("COMMIT").unwrap();
        }
        for _ in 0..4 {
            self.write();
        }
        self.sizes = Sizes {
            chunk: 1 + u32::try_from(self.random.below(3)).unwrap(),
            lease_seconds: if self.random.once_in(2) { 0 } else { 1_000 },
        };
        self.phase = if self.random.once_in(8) { Phase::Loading } else { Phase::Following };
        self.create_stream();
        for _ in 0..2 {
            self.write();
        }
    }

    fn create_stream(&mut self) {
        let pos = self.source.begin(&self.stream, None).unwrap();
        let fingerprint = self.source.fingerprint(&self.stream).unwrap();
        self.source.end().unwrap();
        if self.phase == Phase::Loading {
            self.target.begin_loading(&self.stream).unwrap();
        }
        let (next, mapping_hash) = (pos.clone(), self.stream.hash());
        let row = StreamRow { pos, next, token: 0, phase: self.phase, mapping_hash, fingerprint };
        self.target.create_stream(&self.stream.name, &row).unwrap();
    }

    fn write(&mut self) {
        let done = transact(&self.application, &mut self.random, self.variant.subjects);
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
        let order = match (self.workers[worker].busy, crash) {
            (_, true) => Order::Crash,
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
        self.phase = Phase::Following;
        self.note(format_args!("loaded"));
        Ok(false)
    }

    /// Lets everything run to its end, without writers.
    fn finish(&mut self) -> Result<(), String> {
        for worker in 0..self.workers.len() {
            while self.workers[worker].busy {
                self.order(worker, Order::GoOn)?;
                self.check()?;
            }
        }
        let expire = "UPDATE banyan_chunks SET lease_until = 0";
        self.service.prepare_cached(expire).unwrap().execute([]).unwrap();
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
        let version = "PRAGMA target.data_version";
        let version = self.checker.prepare_cached(version).unwrap().query_row([], |row| row.get(0)).unwrap();
        if version == self.seen_version {
            return Ok(());
        }
        self.seen_version = version;
        let violations = rows(&self.checker, &self.violations);
        if violations.is_empty() { Ok(()) } else { Err(format!("neither equal nor dirty: {violations:?}")) }
    }
}

/// A worker may die, and may be replaced.
fn expected(error: &MigrateError) -> bool {
    matches!(error, MigrateError::Crashed(_)) || error.to_string().contains("has taken the stream")
}
