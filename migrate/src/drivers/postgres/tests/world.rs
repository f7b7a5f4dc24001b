//! Two databases and a stream between them.

use pg_harness::{Database, shared_database};

use crate::drivers::postgres::{PgDriver, PgSource};
use crate::engine::backfill::{Copier, CopierOptions, Step};
use crate::engine::catch_up::Follower;
use crate::engine::compare::{CompareSource, CompareTarget, Part};
use crate::engine::{Driver as _, KeyRange, Mapping, Phase, Source as _, Stream, StreamRow, Target as _};
use crate::error::MigrateError;
use crate::fail_point::FailPoints;

pub(super) struct World {
    pub(super) source: Database,
    pub(super) target: Database,
}

impl World {
    pub(super) fn new(source: &str, target: &str) -> Self {
        let world = Self { source: shared_database().unwrap(), target: shared_database().unwrap() };
        world.source.run(source).unwrap();
        world.target.run(target).unwrap();
        world
    }

    pub(super) fn driver(&self) -> PgDriver {
        PgDriver::new(self.source.url(), self.target.url()).unwrap()
    }

    /// Installs capture and makes the stream's row.
    pub(super) fn begin(&self, stream: &Stream) {
        let (mut source, mut target) = (self.driver().source().unwrap(), self.driver().target().unwrap());
        source.install_capture(stream).unwrap();
        target.prepare(stream).unwrap();
        let position = source.begin(stream, None).unwrap();
        source.persist_snapshot().unwrap();
        let empty = target.is_empty(stream).unwrap();
        let row = StreamRow {
            pos: position.clone(),
            next: position,
            token: 0,
            phase: if empty { Phase::Loading } else { Phase::Following },
            mapping_hash: stream.hash(),
            fingerprint: source.fingerprint(stream).unwrap(),
        };
        target.create_stream(&stream.name, &row).unwrap();
        if empty {
            target.begin_loading(stream).unwrap();
        }
    }

    /// Copies every chunk.
    pub(super) fn try_copy(&self, stream: &Stream) -> Result<(), MigrateError> {
        let (driver, points) = (self.driver(), FailPoints::none());
        let options = CopierOptions { chunk: 37, lease_seconds: 60 };
        let mut copier = Copier::open(&driver, stream, options, &points)?;
        loop {
            match copier.step() {
                Ok(Step::Done) => break,
                Ok(_) | Err(MigrateError::Unreachable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut target = driver.target()?;
        target.finish_loading(stream)?;
        target.move_sequences(stream)
    }

    pub(super) fn copy(&self, stream: &Stream) {
        self.try_copy(stream).unwrap();
    }

    /// One batch of catch-up; returns how many rows were written.
    pub(super) fn follow(&self, stream: &Stream, piece: u32) -> u64 {
        let (driver, points) = (self.driver(), FailPoints::none());
        let mut follower = Follower::claim(&driver, stream, piece, &points).unwrap();
        loop {
            match follower.batch() {
                Ok(caught) => return caught.rows,
                Err(MigrateError::Unreachable { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(super) fn assert_equal(&self, table: &str, columns: &str) {
        let sql = format!("SELECT m::text FROM (SELECT {columns} FROM {table}) AS m ORDER BY 1");
        assert_eq!(self.target.run(&sql).unwrap(), self.source.run(&sql).unwrap());
    }

    /// The sums of whole tables, as verification takes them.
    pub(super) fn assert_sums_equal(&self, stream: &Stream) {
        let (mut source, mut target) = (self.driver().source().unwrap(), self.driver().target().unwrap());
        source.begin(stream, None).unwrap();
        target.snapshot(stream).unwrap();
        for mapping in &stream.mappings {
            for part in [Part::Range(KeyRange::default()), Part::Bucket { index: 1, of: 2 }] {
                let expected = CompareSource::sum(&mut source, mapping, &part).unwrap();
                assert_eq!(CompareTarget::sum(&mut target, mapping, &part).unwrap(), expected);
            }
        }
    }

    pub(super) fn open_source(&self) -> PgSource {
        self.driver().source().unwrap()
    }
}

/// A mapping of some columns to the same ones; the first is the key.
pub(super) fn same(table: &str, columns: &[&str]) -> Mapping {
    let columns: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
    let key = vec![columns[0].clone()];
    Mapping {
        table: table.to_owned(),
        key: key.clone(),
        carries: key.clone(),
        select: format!("SELECT {} FROM {table} WHERE {{keys {}}}", columns.join(", "), key[0]),
        columns,
        root: table.to_owned(),
        root_key: key,
        joins: Vec::new(),
    }
}

pub(super) fn stream(mappings: Vec<Mapping>) -> Stream {
    Stream { name: "items".to_owned(), mappings }
}
