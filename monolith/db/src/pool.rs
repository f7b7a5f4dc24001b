//! The connections: one that writes, several that read, and the transactions around every use of them.
//!
//! Invariant: no code outside a transaction touches a connection, and no connection waits on the async runtime.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Pool, PooledConnection};
use diesel::sql_types::Text;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use crate::{DatabaseSettings, DbError};

type Connections = Pool<ConnectionManager<SqliteConnection>>;

/// One SQLite database. Cloning is cheap; all clones share the connections.
///
/// Prepared statements are kept per connection. Ask for a row by a unique key with `get_result`, not with `first`: the
/// latter binds a LIMIT, and SQLite plans a statement anew each time a value is bound there.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    path: String,
    waits_ms: u64,
    readers: Connections,
    writer: Connections,
}

impl Db {
    /// Opens the file, or creates it, in write-ahead-log mode. Blocking: call it before serving.
    pub fn open(settings: &DatabaseSettings) -> Result<Self, DbError> {
        let path = settings.path.display().to_string();
        let refuse = |reason: String, remedy: &str| DbError::Open {
            path: path.clone(),
            reason,
            remedy: remedy.to_owned(),
        };
        if settings.readers == 0 {
            return Err(refuse("it would have no reader".to_owned(), "set database.readers to 1 or more"));
        }
        touch(&settings.path).map_err(|(reason, remedy)| refuse(reason, remedy))?;
        let absolute = std::path::absolute(&settings.path)
            .ok()
            .and_then(|path| path.to_str().map(str::to_owned))
            .ok_or_else(|| refuse("its path is not UTF-8".to_owned(), "choose another database.path"))?;
        probe(&absolute, settings).map_err(|reason| {
            let remedy = "name a SQLite file that no other program keeps locked in database.path";
            refuse(reason, remedy)
        })?;
        let connections = |size, role| {
            Pool::builder()
                .max_size(size)
                .connection_timeout(Duration::from_millis(settings.busy_timeout_ms.max(1)))
                // A connection to a file does not go stale; asking it each time would cost as much as a short read.
                .test_on_check_out(false)
                .connection_customizer(Box::new(Opened { settings: settings.clone(), role }))
                .build(ConnectionManager::new(absolute.clone()))
                .map_err(|error| refuse(error.to_string(), "see that the file and its folder can be written"))
        };
        let writer = connections(1, Role::Writer)?;
        let readers = connections(settings.readers, Role::Reader)?;
        Ok(Self { inner: Arc::new(Inner { path, waits_ms: settings.busy_timeout_ms, readers, writer }) })
    }

    /// The file, as the settings name it.
    pub fn path(&self) -> &str {
        &self.inner.path
    }

    /// Runs `work` on a reading connection, in one snapshot, off the async runtime.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut SqliteConnection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + From<diesel::result::Error> + Send + 'static,
    {
        let db = self.clone();
        off_runtime(move || db.read_blocking(work)).await
    }

    /// Runs `work` on the writing connection in one `BEGIN IMMEDIATE` transaction, off the async runtime. An error
    /// rolls everything back. Once begun the work runs to its end, also when the caller stops waiting.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut SqliteConnection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + From<diesel::result::Error> + Send + 'static,
    {
        let db = self.clone();
        off_runtime(move || db.write_blocking(work)).await
    }

    /// [`Db::read`] for threads that may block.
    pub fn read_blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut SqliteConnection) -> Result<T, E>,
        E: From<DbError> + From<diesel::result::Error>,
    {
        let mut conn = self.connection(&self.inner.readers)?;
        let mut begun = false;
        let outcome = conn.transaction(|conn| {
            begun = true;
            work(conn).map_err(Outcome::Work)
        });
        outcome.map_err(|outcome| self.explain(outcome, begun))
    }

    /// [`Db::write`] for threads that may block.
    pub fn write_blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut SqliteConnection) -> Result<T, E>,
        E: From<DbError> + From<diesel::result::Error>,
    {
        let mut conn = self.connection(&self.inner.writer)?;
        let mut begun = false;
        let outcome = conn.immediate_transaction(|conn| {
            begun = true;
            work(conn).map_err(Outcome::Work)
        });
        outcome.map_err(|outcome| self.explain(outcome, begun))
    }

    /// Whether the database answers. Blocking; for health checks.
    pub fn check(&self) -> Result<(), String> {
        let asked = self.read_blocking(|conn| {
            sql_query("SELECT count(*) FROM sqlite_schema").execute(conn)?;
            Ok::<_, DbError>(())
        });
        asked.map_err(|error| platform::error::chain(&error))
    }

    fn connection(
        &self,
        pool: &Connections,
    ) -> Result<PooledConnection<ConnectionManager<SqliteConnection>>, DbError> {
        pool.get().map_err(|_| DbError::NoConnection {
            path: self.inner.path.clone(),
            waited_ms: self.inner.waits_ms,
        })
    }

    fn explain<E: From<DbError>>(&self, outcome: Outcome<E>, begun: bool) -> E {
        let path = self.inner.path.clone();
        match outcome {
            Outcome::Work(error) => error,
            Outcome::Transaction(source) if begun => DbError::End { path, source }.into(),
            Outcome::Transaction(source) => DbError::Begin { path, source }.into(),
        }
    }
}

/// Keeps an error of the work apart from one of the transaction around it: after a failed commit nobody knows
/// whether the work was done, after failed work everybody does.
enum Outcome<E> {
    Work(E),
    Transaction(diesel::result::Error),
}

impl<E> From<diesel::result::Error> for Outcome<E> {
    fn from(error: diesel::result::Error) -> Self {
        Self::Transaction(error)
    }
}

async fn off_runtime<T, E, F>(work: F) -> Result<T, E>
where
    F: FnOnce() -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<DbError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(DbError::Stopping.into()),
        },
    }
}

/// Creates the file if need be: the operating system says what is wrong, SQLite only that something is.
fn touch(path: &Path) -> Result<(), (String, &'static str)> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    opened.map(drop).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            ("its folder does not exist".to_owned(), "create the folder or set database.path")
        }
        ErrorKind::PermissionDenied => {
            ("permission denied".to_owned(), "give this user the right to write it or set database.path")
        }
        _ => (error.to_string(), "set database.path to a file that can be written"),
    })
}

/// Opens one connection to learn, in words, why the pool would not.
fn probe(path: &str, settings: &DatabaseSettings) -> Result<(), String> {
    let mut conn = SqliteConnection::establish(path).map_err(|error| error.to_string())?;
    let prepared = prepare(&mut conn, settings, Role::Writer)
        .and_then(|()| sql_query("PRAGMA journal_mode").load::<JournalMode>(&mut conn));
    let mode = prepared.map_err(|error| error.to_string())?.pop().map(|row| row.journal_mode);
    match mode.as_deref() {
        Some("wal") => Ok(()),
        other => {
            Err(format!("it cannot use a write-ahead log (journal mode {})", other.unwrap_or("unknown")))
        }
    }
}

#[derive(QueryableByName)]
struct JournalMode {
    #[diesel(sql_type = Text)]
    journal_mode: String,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Reader,
    Writer,
}

#[derive(Debug)]
struct Opened {
    settings: DatabaseSettings,
    role: Role,
}

impl CustomizeConnection<SqliteConnection, diesel::r2d2::Error> for Opened {
    fn on_acquire(&self, conn: &mut SqliteConnection) -> Result<(), diesel::r2d2::Error> {
        prepare(conn, &self.settings, self.role).map_err(diesel::r2d2::Error::QueryError)
    }
}

fn prepare(
    conn: &mut SqliteConnection,
    settings: &DatabaseSettings,
    role: Role,
) -> Result<(), diesel::result::Error> {
    // First of all, since every statement after it may meet another process's lock.
    conn.batch_execute(&format!("PRAGMA busy_timeout = {}", settings.busy_timeout_ms))?;
    match role {
        Role::Reader => conn.batch_execute("PRAGMA query_only = ON"),
        // Checkpoints four times as rare as SQLite's default: an import writes mostly new pages, and each checkpoint
        // waits for the disk.
        Role::Writer => conn.batch_execute(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = {}; PRAGMA foreign_keys = ON;
             PRAGMA cache_size = -{}; PRAGMA wal_autocheckpoint = 4000",
            settings.synchronous.pragma(),
            settings.cache_kib
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(path: &Path) -> DatabaseSettings {
        DatabaseSettings { path: path.to_owned(), ..DatabaseSettings::default() }
    }

    fn refusal(path: &Path) -> String {
        Db::open(&settings(path)).err().unwrap().to_string()
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let text = refusal(&folder.path().join("none/x.db"));
        assert!(
            text.ends_with("its folder does not exist; create the folder or set database.path"),
            "{text}"
        );
    }

    #[test]
    fn a_file_that_is_no_database_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "not a database, but long enough to have a header of sixteen bytes").unwrap();
        let text = refusal(&path);
        assert!(text.contains("file is not a database") && text.contains("database.path"), "{text}");
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("not a database"));
    }

    #[test]
    fn a_reader_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&settings(&folder.path().join("x.db"))).unwrap();
        let written = db.read_blocking(|conn| Ok::<_, DbError>(conn.batch_execute("CREATE TABLE t (a)")?));
        assert!(matches!(written, Err(DbError::Statement(_))));
    }

    #[test]
    fn failed_work_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&settings(&folder.path().join("x.db"))).unwrap();
        let failed = db.write_blocking(|conn| {
            conn.batch_execute("CREATE TABLE t (a)")?;
            Err::<(), _>(DbError::Stopping)
        });
        assert!(matches!(failed, Err(DbError::Stopping)));
        let again = db.write_blocking(|conn| Ok::<_, DbError>(conn.batch_execute("CREATE TABLE t (a)")?));
        assert!(again.is_ok());
    }
}
