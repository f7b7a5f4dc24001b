//! Two databases with an application, a control store, and the commands of this crate on them.
//!
//! Invariant: each world has a folder of its own, so tests run side by side.

use std::ops::Deref;
use std::path::Path;

use control::{ControlSettings, ControlStore, Who};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::backfill::{self, BackfillOptions, BackfillReport};
use crate::dual_write;
use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::fail_point::FailPoints;
use crate::meter::Meter;
use crate::settings::{ExtractionSettings, Settings};
use crate::tests::application::Application;
use crate::verify::{self, Report, VerifyOptions};

pub(super) const CONTRACT: &str =
    include_str!("../../../monolith/db/migrations/0001_replication/up.sqlite.sql");
pub(super) const MONOLITH: &str = include_str!("../../../monolith/users/migrations/0001_users/up.sqlite.sql");
pub(super) const SERVICE: &str =
    include_str!("../../../extracted/users/migrations/0001_people/up.sqlite.sql");
pub(super) const MANIFEST: &str = include_str!("../../../extracted/users/extraction.toml");

pub(super) struct World {
    pub(super) folder: TempDir,
    pub(super) settings: Settings,
    pub(super) extraction: Extraction,
    pub(super) application: Application,
}

impl Deref for World {
    type Target = Application;

    fn deref(&self) -> &Application {
        &self.application
    }
}

pub(super) fn who() -> Who {
    Who::new("test", "to see what happens")
}

fn database(path: &Path, schema: &str, fence: &str) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch("PRAGMA journal_mode = wal; PRAGMA synchronous = off").unwrap();
    conn.execute_batch(CONTRACT).unwrap();
    conn.execute_batch(schema).unwrap();
    conn.execute("INSERT INTO banyan_contexts (context, fence) VALUES ('users', ?1)", [fence]).unwrap();
    conn
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(MANIFEST, MONOLITH, SERVICE)
    }

    pub(super) fn with(manifest: &str, monolith: &str, service: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let source = database(&at("monolith.db"), monolith, "open");
        let target = database(&at("users-service.db"), service, "closed");
        std::fs::write(at("extraction.toml"), manifest).unwrap();
        let control = ControlSettings { path: at("control.db"), ..ControlSettings::default() };
        ControlStore::open(&control).unwrap();
        let extraction = ExtractionSettings {
            manifest: at("extraction.toml"),
            source: at("monolith.db").into(),
            target: at("users-service.db").into(),
            ..ExtractionSettings::default()
        };
        let settings = Settings { control, extractions: [("users".to_owned(), extraction)].into() };
        let mut extraction = Extraction::open(&settings, "users").unwrap();
        extraction.points = FailPoints::none();
        Self { folder, settings, extraction, application: Application { source, target } }
    }

    /// The same extraction for another thread.
    pub(super) fn again(&self) -> Extraction {
        let mut extraction = Extraction::open(&self.settings, "users").unwrap();
        extraction.points = FailPoints::none();
        extraction
    }

    /// With `count` users, dual-write on and everything copied.
    pub(super) fn copied(count: i64) -> Self {
        let world = Self::new();
        world.seed(count);
        world.dual_write(true);
        assert!(world.backfill(BackfillOptions::default()).done);
        world
    }

    pub(super) fn seed(&self, count: i64) {
        self.source.execute_batch("BEGIN").unwrap();
        for number in 1..=count {
            self.create(&format!("Ann Nr {number}"), &format!("ann{number}@example.com"));
        }
        self.source.execute_batch("COMMIT").unwrap();
    }

    pub(super) fn dual_write(&self, on: bool) {
        dual_write::set(&self.extraction, on, &who()).unwrap();
    }

    pub(super) fn backfill(&self, options: BackfillOptions) -> BackfillReport {
        self.try_backfill(options).unwrap()
    }

    pub(super) fn try_backfill(&self, options: BackfillOptions) -> Result<BackfillReport, MigrateError> {
        backfill::run(&self.extraction, options, &mut Meter::silent())
    }

    pub(super) fn verify(&self) -> Report {
        let options = VerifyOptions { patience: std::time::Duration::ZERO, ..VerifyOptions::default() };
        verify::run(&self.extraction, options, &mut Meter::silent()).unwrap()
    }
}
