//! Databases for tests: each test has its own, and is written once for SQLite and PostgreSQL.
//!
//! Invariant: what a test created is gone when its [`Scratch`] is dropped, and a test that cannot have a database fails.

use std::fmt::Display;
use std::ops::Deref;

use pg_harness::Database;
use platform::settings::Secret;
use tempfile::TempDir;

use crate::schema::{self, Rows, SchemaSource};
use crate::{Backend, DatabaseSettings, Db};

/// A database of one test. It is used as the [`Db`] that it holds.
pub struct Scratch {
    db: Db,
    settings: DatabaseSettings,
    _home: Home,
}

/// What goes with the test.
enum Home {
    Folder { _folder: TempDir },
    Server { _database: Database },
}

impl Scratch {
    /// What another process would open the same database with.
    pub fn settings(&self) -> &DatabaseSettings {
        &self.settings
    }
}

impl Deref for Scratch {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.db
    }
}

/// A new database with these schemas. Blocking; panics when there is none to be had.
pub fn scratch(backend: Backend, sources: &[SchemaSource]) -> Scratch {
    let (settings, home) = match backend {
        Backend::Sqlite => in_folder(),
        Backend::Postgres => on_server(),
    };
    let db = must(Db::open(&settings));
    must(schema::apply(&db, sources));
    Scratch { db, settings, _home: home }
}

/// Checks one context's schema: its steps make the tables that it lists and no others, whose names begin with the context's
/// and whose foreign keys stay among them, and its ways down lead back to nothing. Blocking; panics otherwise.
pub fn check_schema(backend: Backend, source: SchemaSource) {
    let db = scratch(backend, &[source]);
    let found = must(schema::facts(&db));
    let ours = found.tables.iter().map(|table| table.name.as_str()).filter(|name| *name != "banyan_schema");
    assert_eq!(ours.collect::<Vec<_>>(), source.tables, "the tables of {}", source.context);
    let stray = source.tables.iter().find(|table| !table.starts_with(&format!("{}_", source.schema())));
    assert_eq!(stray, None, "the prefix of {}'s tables", source.context);
    for key in found.foreign_keys {
        assert!(source.tables.contains(&key.to.name.as_str()), "a foreign key leaves: {key:?}");
    }
    must(schema::revert(&db, &[source], source.migrations.len(), Rows::Keep));
    let left = must(schema::facts(&db)).tables;
    assert!(left.iter().all(|table| table.name == "banyan_schema"), "left by the ways down: {left:?}");
    assert_eq!(must(schema::apply(&db, &[source])).len(), source.migrations.len());
}

/// Runs one test to its end. For [`on_both!`](crate::on_both).
pub fn run(test: impl Future<Output = ()>) {
    must(tokio::runtime::Builder::new_current_thread().enable_all().build()).block_on(test);
}

fn in_folder() -> (DatabaseSettings, Home) {
    let folder = must(tempfile::tempdir());
    let path = folder.path().join("scratch.db");
    let settings = DatabaseSettings { path, readers: 2, ..DatabaseSettings::default() };
    (settings, Home::Folder { _folder: folder })
}

fn on_server() -> (DatabaseSettings, Home) {
    let database = match pg_harness::shared_database() {
        Ok(database) => database,
        Err(error) => panic!("no PostgreSQL for tests: {error:#}"),
    };
    let settings = DatabaseSettings {
        url: Secret::new(database.url()),
        connections: 4,
        // Many tests share the machine and the server; an outage is not what they are about.
        acquire_timeout_ms: 10_000,
        ..DatabaseSettings::default()
    };
    (settings, Home::Server { _database: database })
}

fn must<T, E: Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("no database for this test: {error}"),
    }
}

/// Tests on both databases: `on_both!(fixture => [fact, another_fact]);` where `fn fixture(Backend) -> Fixture` and
/// `async fn fact(fixture: Fixture)`. Makes `sqlite::fact` and `postgres::fact`. A fact that is not listed is unused code,
/// which the compiler reports.
#[macro_export]
macro_rules! on_both {
    ($fixture:ident => [$($fact:ident),+ $(,)?]) => {
        mod sqlite {
            $(
                #[test]
                fn $fact() {
                    $crate::testing::run(super::$fact(super::$fixture($crate::Backend::Sqlite)));
                }
            )+
        }
        mod postgres {
            $(
                #[test]
                fn $fact() {
                    $crate::testing::run(super::$fact(super::$fixture($crate::Backend::Postgres)));
                }
            )+
        }
    };
}
