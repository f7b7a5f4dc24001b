//! A store of one test: a file in a folder of its own, or a database of its own.
//!
//! Invariant: a fact is written once and holds on both databases; one that cannot have a database fails.

use std::path::Path;
use std::time::{Duration, Instant};

use pg_harness::Database;
use platform::settings::Secret;
use tempfile::TempDir;

use crate::*;

/// How long anything here may take before it counts as hung.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
pub(super) enum Backend {
    Sqlite,
    Postgres,
}

/// What goes with the test.
pub(super) enum Home {
    Folder(TempDir),
    Server(Database),
}

impl Home {
    pub(super) fn new(on: Backend) -> Self {
        match on {
            Backend::Sqlite => Self::Folder(tempfile::tempdir().unwrap()),
            Backend::Postgres => Self::Server(pg_harness::shared_database().unwrap()),
        }
    }

    /// These settings, for the store of this test. Many tests share the machine, so a slow answer is no outage.
    pub(super) fn settings(&self, settings: ControlSettings) -> ControlSettings {
        match self {
            Self::Folder(folder) => ControlSettings { path: at(folder.path()), ..settings },
            Self::Server(database) => {
                ControlSettings { url: Secret::new(database.url()), answer_timeout_ms: 30_000, ..settings }
            }
        }
    }
}

fn at(folder: &Path) -> std::path::PathBuf {
    folder.join("control.db")
}

/// A store that knows the context `users`.
pub(super) fn open(on: Backend, settings: ControlSettings) -> (Home, ControlStore) {
    let home = Home::new(on);
    let store = ControlStore::open(&home.settings(settings)).unwrap();
    store.declare("users", DataMode::Replicated).unwrap();
    (home, store)
}

/// Waits until something is so.
pub(super) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Makes `sqlite::fact` and `postgres::fact` of each fact.
macro_rules! on_both {
    ([$($fact:ident),+ $(,)?]) => {
        mod sqlite {
            $(
                #[test]
                fn $fact() {
                    super::$fact($crate::tests::home::Backend::Sqlite);
                }
            )+
        }
        mod postgres {
            $(
                #[test]
                fn $fact() {
                    super::$fact($crate::tests::home::Backend::Postgres);
                }
            )+
        }
    };
}

pub(super) use on_both;
