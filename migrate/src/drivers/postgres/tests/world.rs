//! Two databases and a stream between them, driven as the commands drive it.
//!
//! Invariant: `difference` sees every mapped value as text that another program printed.

use pg_harness::{Database, shared_database};

use crate::drivers::postgres::{PostgresDriver, PostgresOptions, PostgresSource, PostgresTarget};
use crate::engine::backfill::{Copier, CopierOptions, Step};
use crate::engine::catch_up::{Caught, Follower};
use crate::engine::compare::{CompareSource as _, CompareTarget as _, Part};
use crate::engine::{Driver as _, KeyRange, Mapping, Phase, Source as _, Stream, StreamRow, Target as _};
use crate::error::MigrateError;
use crate::fail_point::FailPoints;

pub(super) struct World {
    pub(super) source: Database,
    pub(super) target: Database,
    pub(super) driver: PostgresDriver,
    pub(super) stream: Stream,
    pub(super) points: FailPoints,
    pub(super) chunk: u32,
}

impl World {
    /// A source and a target with their schemas; what the source holds is made by `source` as well.
    pub(super) fn new(source: &str, target: &str, mappings: Vec<Mapping>) -> Self {
        Self::between(shared_database().unwrap(), shared_database().unwrap(), (source, target), mappings)
    }

    /// As [`Self::new`], in databases of other servers.
    pub(super) fn between(
        one: Database,
        other: Database,
        schemas: (&str, &str),
        mappings: Vec<Mapping>,
    ) -> Self {
        one.run(schemas.0).unwrap();
        other.run(schemas.1).unwrap();
        let driver = PostgresDriver::new(one.url(), other.url(), PostgresOptions::default()).unwrap();
        let stream = Stream { name: "things".to_owned(), mappings, forward: Vec::new() };
        let points = FailPoints::none();
        Self { source: one, target: other, driver, stream, points, chunk: 7 }
    }

    /// Has this done once, when the first chunk has been read and not yet written, with a connection to the source.
    pub(super) fn behind_first_read(&mut self, act: impl Fn(&mut postgres::Client) + Send + 'static) {
        let (url, once) = (self.source.url().to_owned(), std::cell::Cell::new(true));
        self.points = FailPoints::watched(move |point| {
            if point == "chunk_read" && once.replace(false) {
                act(&mut postgres::Client::connect(&url, postgres::NoTls).unwrap());
            }
        });
    }

    pub(super) fn source_end(&self) -> PostgresSource {
        self.driver.source().unwrap()
    }

    pub(super) fn target_end(&self) -> PostgresTarget {
        self.driver.target().unwrap()
    }

    /// Installs capture and makes the stream's row.
    pub(super) fn begin(&self, phase: Phase) -> Result<(), MigrateError> {
        let (mut source, mut target) = (self.driver.source()?, self.driver.target()?);
        source.install_capture(&self.stream)?;
        target.prepare(&self.stream)?;
        let pos = source.begin(&self.stream, None)?;
        let fingerprint = source.fingerprint(&self.stream)?;
        source.persist_snapshot()?;
        source.end()?;
        let (next, mapping_hash) = (pos.clone(), self.stream.hash());
        let row = StreamRow { pos, next, token: 0, phase, mapping_hash, fingerprint };
        target.create_stream(&self.stream.name, &row)?;
        if phase == Phase::Loading {
            target.begin_loading(&self.stream)?;
        }
        Ok(())
    }

    /// Copies until nothing is left.
    pub(super) fn copy(&self) {
        self.try_copy().unwrap();
    }

    pub(super) fn try_copy(&self) -> Result<(), MigrateError> {
        let options = CopierOptions { chunk: self.chunk, lease_seconds: 60 };
        let mut copier = Copier::open(&self.driver, &self.stream, options, &self.points)?;
        while copier.step()? != Step::Done {}
        Ok(())
    }

    /// Begins with chunks that give way, and copies everything.
    pub(super) fn copied(self) -> Self {
        self.begin(Phase::Following).unwrap();
        self.copy();
        self
    }

    /// One batch of catch-up, in small pieces.
    pub(super) fn follow(&self) -> Caught {
        self.try_follow().unwrap()
    }

    pub(super) fn try_follow(&self) -> Result<Caught, MigrateError> {
        Follower::claim(&self.driver, &self.stream, 3, &self.points)?.batch()
    }

    /// Rows that differ, printed by `psql`; both queries must give the same columns in the same order.
    pub(super) fn difference(&self, source: &str, target: &str) -> String {
        let settings = "SET timezone = 'UTC'; SET extra_float_digits = 3;";
        let read = |database: &Database, query: &str| database.run(&format!("{settings} {query}")).unwrap();
        let (one, other) = (read(&self.source, source), read(&self.target, target));
        let (mut one, mut other): (Vec<&str>, Vec<&str>) = (one.lines().collect(), other.lines().collect());
        one.sort_unstable();
        other.sort_unstable();
        if one == other { String::new() } else { format!("source {one:#?}\ntarget {other:#?}") }
    }

    #[track_caller]
    pub(super) fn assert_same(&self, source: &str, target: &str) {
        assert_eq!(self.difference(source, target), "");
    }

    /// Whether the two ends of a mapping have one sum, over everything.
    pub(super) fn sums_agree(&self, mapping: usize) -> bool {
        let mapping = &self.stream.mappings[mapping];
        let (mut source, mut target) = (self.source_end(), self.target_end());
        let part = Part::Range(KeyRange::default());
        source.begin(&self.stream, None).unwrap();
        target.snapshot(&self.stream).unwrap();
        let bucket = Part::Bucket { index: 1, of: 3 };
        let same = |part: &Part, source: &mut PostgresSource, target: &mut PostgresTarget| {
            let (one, other) = (source.sum(mapping, part).unwrap(), target.sum(mapping, part).unwrap());
            one == other
        };
        same(&part, &mut source, &mut target) && same(&bucket, &mut source, &mut target)
    }
}

/// A mapping of columns to columns of the same name in a table of the same name, with the key `id`.
pub(super) fn plain(table: &str, columns: &[&str]) -> Mapping {
    let key = vec!["id".to_owned()];
    let select = format!("SELECT {} FROM {table} WHERE {{keys id}}", columns.join(", "));
    Mapping {
        table: table.to_owned(),
        key: key.clone(),
        columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        carries: key.clone(),
        select,
        root: table.to_owned(),
        root_key: key,
        joins: Vec::new(),
    }
}
