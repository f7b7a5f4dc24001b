//! The simulation on PostgreSQL: two schemas of one database, so that one statement sees both ends at one instant.
//!
//! Invariant: the application's sessions, which keep transactions open across the steps of the workers, are not the driver's,
//! and the checker's is neither.

mod schema;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use pg_harness::{Database, shared_database};
use postgres::{Client, NoTls, Statement};

use super::random::Random;
use super::world::{Ends, World};
use crate::drivers::postgres::{PostgresDriver, PostgresOptions};
use crate::engine::{Driver as _, Source as _, Stream, Target as _};
use schema::{VARIANTS as ALL, Variant, differences, stream, violations};
use writer::Writers;

/// How many kinds of worlds there are.
pub(super) const VARIANTS: usize = ALL.len();
/// After so many seeds the rows that all of them left behind are cleaned away.
const SEEDS_PER_VACUUM: u32 = 50;

pub(super) struct Schemas {
    variant: &'static Variant,
    driver: PostgresDriver,
    stream: Arc<Stream>,
    writers: Writers,
    checker: Client,
    violations: Statement,
    differences: Statement,
    empty: String,
    tables: String,
    seeds: u32,
    _database: Database,
}

/// The place of the variant that comes so many after the first; nothing behind the last. The one with most mappings takes longest
/// and comes first.
pub(super) fn variant(number: u64) -> Option<usize> {
    VARIANTS.checked_sub(1 + usize::try_from(number).ok()?)
}

/// A world of the variant at that place.
pub(super) fn world(variant: usize) -> World<Schemas> {
    World::new(Schemas::new(&ALL[variant]))
}

impl Schemas {
    fn new(variant: &'static Variant) -> Self {
        let database = shared_database().unwrap();
        database.run(schema::TABLES).unwrap();
        let url = database.url();
        let stream = Arc::new(stream(variant));
        let patient = PostgresDriver::new(url, url, PostgresOptions::default()).unwrap();
        patient.source().unwrap().install_capture(&stream).unwrap();
        patient.target().unwrap().prepare(&stream).unwrap();
        // From here on, whoever waits for a lock waits for somebody who stands still.
        let options = PostgresOptions { lock: Duration::from_millis(20), ..PostgresOptions::default() };
        let driver = PostgresDriver::new(url, url, options).unwrap();
        let mut checker = Client::connect(url, NoTls).unwrap();
        // Plans for tables as they are now, which are hardly ever larger.
        checker.batch_execute("SET jit = off; SET plan_cache_mode = force_generic_plan").unwrap();
        let tables = schema::every_table(&mut checker);
        // An autovacuum that cuts a table off locks it for longer than the workers wait.
        let quiet = |table: &String| format!("ALTER TABLE {table} SET (autovacuum_enabled = off); ");
        checker.batch_execute(&tables.iter().map(quiet).collect::<String>()).unwrap();
        let delete = |table: &String| format!("DELETE FROM {table}; ");
        let empty = format!(
            "BEGIN; SET LOCAL banyan.silenced = '{}'; SET LOCAL banyan.pruning = 'on'; {}COMMIT",
            stream.name,
            tables.iter().map(delete).collect::<String>()
        );
        let (violations, differences) =
            (violations(variant, &mut checker), differences(variant, &mut checker));
        Self {
            variant,
            violations: checker.prepare(&violations).unwrap(),
            differences: checker.prepare(&differences).unwrap(),
            writers: Writers::open(url, database.name()),
            tables: tables.join(", "),
            driver,
            stream,
            checker,
            empty,
            seeds: 0,
            _database: database,
        }
    }

    fn look(&mut self, statement: &Statement) -> Vec<String> {
        let rows = self.checker.query(statement, &[]).unwrap();
        let key = |row: &postgres::Row, at: usize| row.get::<_, Option<String>>(at).unwrap_or_default();
        rows.iter()
            .map(|row| format!("mapping {} ({}, {})", row.get::<_, i32>(0), key(row, 1), key(row, 2)))
            .collect()
    }
}

impl Ends for Schemas {
    type Driver = PostgresDriver;
    // Indexes are built on connections of their own, which takes longer than all the rest of a seed.
    const LOADS_ONCE_IN: u64 = 60;
    const CLOSES_ONCE_IN: u64 = 6;

    fn driver(&self) -> &PostgresDriver {
        &self.driver
    }

    fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    fn empty(&mut self) {
        self.writers.settle();
        self.checker.batch_execute(&self.empty).unwrap();
        self.seeds += 1;
        if self.seeds.is_multiple_of(SEEDS_PER_VACUUM) {
            self.checker.batch_execute(&format!("VACUUM {}", self.tables)).unwrap();
        }
    }

    fn write(&mut self, random: &mut Random) -> String {
        self.writers.step(random, self.variant.subjects)
    }

    fn settle(&mut self) {
        self.writers.settle();
    }

    fn expire(&mut self) {
        self.checker.batch_execute("UPDATE banyan.chunk SET leased_until = '-infinity'").unwrap();
    }

    fn violations(&mut self) -> Vec<String> {
        self.look(&self.violations.clone())
    }

    fn differences(&mut self) -> Vec<String> {
        self.look(&self.differences.clone())
    }
}
