//! The store itself: one SQLite file, opened by every process on the machine.
//!
//! Invariant: every write runs in a transaction that is a writer from its start, so what it checked is still true
//! when it commits.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Error, Pool, PooledConnection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ControlError;
use crate::schema;

/// Where the control store is, and the limits that its gates keep.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlSettings {
    /// The SQLite file, shared by all processes of this machine; empty where a process runs without one. Processes
    /// with different files do not see each other's flags, and writes can go to both sides.
    pub path: PathBuf,
    /// Milliseconds between two looks at the store: how soon a change of a flag takes effect. Too long and a switch,
    /// which waits for every instance, holds writes longer; too short costs processor time only.
    #[serde(deserialize_with = "platform::settings::within::<1, 60_000, _, _>")]
    pub poll_ms: u64,
    /// Milliseconds without a sign of life after which an instance no longer counts. Too short and a busy instance is
    /// left out of a switch; too long and a switch waits for one that died.
    #[serde(deserialize_with = "platform::settings::within::<100, 3_600_000, _, _>")]
    pub lease_ms: i64,
    /// Seconds after which a verification is too old to raise reads or to switch. Too short and it must be repeated
    /// at every step; too long and differences that arose since go unseen.
    #[serde(deserialize_with = "platform::settings::within::<1, 31_536_000, _, _>")]
    pub verification_max_age_s: i64,
    /// Milliseconds that the oldest undelivered write may be old when reads are raised. Too low and a short hiccup
    /// forbids raising them; too high and more clients read stale data.
    #[serde(deserialize_with = "platform::settings::within::<1, 86_400_000, _, _>")]
    pub lag_limit_ms: i64,
    /// Milliseconds that the oldest undelivered write may be old before canary reads go back to the owner. Shorter means
    /// fewer stale reads after the service was away; too short, and every hiccup moves reads.
    #[serde(deserialize_with = "platform::settings::within::<1, 86_400_000, _, _>")]
    pub read_lag_limit_ms: i64,
    /// Milliseconds that a switch may hold writes before it is given up. Too short and switches fail under load; too
    /// long and clients wait for a switch that cannot succeed.
    #[serde(deserialize_with = "platform::settings::within::<1, 60_000, _, _>")]
    pub hold_limit_ms: i64,
}

impl Default for ControlSettings {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            poll_ms: 20,
            lease_ms: 3_000,
            verification_max_age_s: 3_600,
            lag_limit_ms: 5_000,
            read_lag_limit_ms: 500,
            hold_limit_ms: 1_000,
        }
    }
}

impl ControlSettings {
    /// Whether this process takes part in routing at all.
    pub fn is_set(&self) -> bool {
        !self.path.as_os_str().is_empty()
    }
}

/// A handle to the control store; clones share their connections. All calls block.
#[derive(Clone)]
pub struct ControlStore {
    pool: Pool<ConnectionManager<SqliteConnection>>,
    settings: ControlSettings,
}

impl ControlStore {
    /// Opens the store, creating file and tables where there are none.
    pub fn open(settings: &ControlSettings) -> Result<Self, ControlError> {
        let path = settings.path.display().to_string();
        let cannot = |reason: String| ControlError::CannotOpen { path: path.clone(), reason };
        if !settings.is_set() {
            return Err(cannot("no path is set".to_owned()));
        }
        // The pool hides why it could not connect, so the first connection is made by hand.
        let mut first = connect(settings)?;
        schema::ensure(&mut first, &path).map_err(|error| match error {
            ControlError::Database(error) => cannot(error.to_string()),
            other => other,
        })?;
        let pool = Pool::builder()
            .max_size(4)
            .min_idle(Some(0))
            .connection_timeout(Duration::from_secs(5))
            .connection_customizer(Box::new(Pragmas))
            .build(ConnectionManager::new(path.clone()))
            .map_err(|error| cannot(error.to_string()))?;
        Ok(Self { pool, settings: settings.clone() })
    }

    /// Opens a store that some other process created; where there is no file, none is made.
    pub fn open_existing(settings: &ControlSettings) -> Result<Self, ControlError> {
        if settings.is_set() {
            std::fs::metadata(&settings.path).map_err(|error| ControlError::CannotOpen {
                path: settings.path.display().to_string(),
                reason: match error.kind() {
                    ErrorKind::NotFound => "there is no such file".to_owned(),
                    _ => error.to_string(),
                },
            })?;
        }
        Self::open(settings)
    }

    /// The settings under which the store was opened.
    pub fn settings(&self) -> &ControlSettings {
        &self.settings
    }

    /// Whether the store can be read now; for health checks.
    pub fn check(&self) -> Result<(), String> {
        self.flags().map(drop).map_err(|error| error.to_string())
    }

    pub(crate) fn connection(
        &self,
    ) -> Result<PooledConnection<ConnectionManager<SqliteConnection>>, ControlError> {
        Ok(self.pool.get()?)
    }

    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        self.connection()?.immediate_transaction(work)
    }
}

/// One connection outside the pool, ready for use.
pub(crate) fn connect(settings: &ControlSettings) -> Result<SqliteConnection, ControlError> {
    let path = settings.path.display().to_string();
    let cannot = |reason: String| ControlError::CannotOpen { path: path.clone(), reason };
    let mut conn = SqliteConnection::establish(&path).map_err(|error| cannot(error.to_string()))?;
    prepare(&mut conn).map_err(|error| cannot(error.to_string()))?;
    Ok(conn)
}

/// Milliseconds since 1970 by the machine's clock: the clock by which every `…_ms` of the store is set, and by which
/// whoever compares one must go, too.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[derive(Debug)]
struct Pragmas;

impl CustomizeConnection<SqliteConnection, Error> for Pragmas {
    fn on_acquire(&self, conn: &mut SqliteConnection) -> Result<(), Error> {
        prepare(conn).map_err(Error::QueryError)
    }
}

/// `synchronous = FULL`: a flip that was answered must outlive a power cut.
fn prepare(conn: &mut SqliteConnection) -> QueryResult<()> {
    conn.batch_execute(
        "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_must_exist_is_not_created() {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            ControlSettings { path: folder.path().join("control.db"), ..ControlSettings::default() };
        let Err(ControlError::CannotOpen { path, reason }) = ControlStore::open_existing(&settings) else {
            panic!("a missing store was opened");
        };
        assert_eq!((path, reason.as_str()), (settings.path.display().to_string(), "there is no such file"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

        ControlStore::open(&settings).unwrap();
        assert!(ControlStore::open_existing(&settings).unwrap().flags().unwrap().is_empty());
    }
}
