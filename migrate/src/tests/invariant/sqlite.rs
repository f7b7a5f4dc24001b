//! The simulation on SQLite files, in memory where the machine has a place for that.
//!
//! Invariant: the application's connection is not the driver's, and the checker's is neither.

mod schema;
mod writer;

use std::sync::Arc;

use rusqlite::Connection;
use tempfile::TempDir;

use super::random::Random;
use super::world::{Ends, World};
use crate::drivers::sqlite::{Durability, SqliteDriver, SqliteOptions};
use crate::engine::{Mapping, Stream};
use schema::{SOURCE_TABLES, TARGET_TABLES, VARIANTS, Variant, differences, rows, stream, violations};
use writer::transact;

pub(super) struct Files {
    _folder: TempDir,
    variant: &'static Variant,
    differences: String,
    violations: String,
    driver: SqliteDriver,
    stream: Arc<Stream>,
    application: Connection,
    checker: Connection,
    service: Connection,
    seen_version: i64,
}

fn forgetful(conn: &Connection) {
    conn.execute_batch("PRAGMA synchronous = off").unwrap();
    conn.set_prepared_statement_cache_capacity(4096);
}

/// One world per variant; a seed belongs to the one at its remainder.
pub(super) fn worlds() -> Vec<World<Files>> {
    VARIANTS.iter().map(|variant| World::new(Files::new(variant))).collect()
}

impl Files {
    fn new(variant: &'static Variant) -> Self {
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
        let checker = Connection::open_in_memory().unwrap();
        for (file, name) in [(&from, "source"), (&to, "target")] {
            checker.execute(&format!("ATTACH ?1 AS {name}"), [file.display().to_string()]).unwrap();
        }
        Self {
            _folder: folder,
            variant,
            differences: differences(variant),
            violations: violations(variant),
            driver,
            stream: Arc::new(stream(variant)),
            application,
            checker,
            service,
            seen_version: -1,
        }
    }
}

impl Ends for Files {
    type Driver = SqliteDriver;
    const LOADS_ONCE_IN: u64 = 8;
    const CLOSES_ONCE_IN: u64 = 1;

    fn driver(&self) -> &SqliteDriver {
        &self.driver
    }

    fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    fn empty(&mut self) {
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
    }

    fn write(&mut self, random: &mut Random) -> String {
        transact(&self.application, random, self.variant.subjects)
    }

    fn expire(&mut self) {
        let expire = "UPDATE banyan_chunks SET lease_until = 0";
        self.service.prepare_cached(expire).unwrap().execute([]).unwrap();
    }

    fn violations(&mut self) -> Vec<String> {
        let version = "PRAGMA target.data_version";
        let version = self.checker.prepare_cached(version).unwrap().query_row([], |row| row.get(0)).unwrap();
        if version == self.seen_version {
            return Vec::new();
        }
        self.seen_version = version;
        rows(&self.checker, &self.violations)
    }

    fn differences(&mut self) -> Vec<String> {
        rows(&self.checker, &self.differences)
    }
}
