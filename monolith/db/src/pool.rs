//! The connections of one database, and the transactions around every use of them.
//!
//! Invariant: no code outside a transaction touches a connection, except for reads of one statement; no connection waits
//! on the async runtime, and no async call holds a thread while others hold the connections.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::r2d2::{NopErrorHandler, Pool, PooledConnection};
use diesel::{RunQueryDsl, sql_query};
use tracing::Instrument;

use crate::conn::Conn;
use crate::manager::Manager;
use crate::postgres::{self, Server};
use crate::sqlite::{self, Role};
use crate::together;
use crate::transaction::{self, Access, Ending};
use crate::turns::{NotRun, Turns};
use crate::wake::{self, Wakes};
use crate::{DatabaseSettings, DbError};

/// A SQLite connection does nothing outside a call, so nothing wears it out; one to a server may be cut by what lies
/// between.
const POSTGRES_IDLE: Duration = Duration::from_secs(300);

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// A SQLite file.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
}

/// One database. Cloning is cheap; all clones share the connections.
///
/// Prepared statements are kept per connection. Ask for a row by a unique key with `get_result`, not with `first`: the
/// latter binds a LIMIT, and SQLite plans a statement anew each time a value is bound there.
///
/// In SQLite one write runs after the other. In PostgreSQL they run beside each other, at READ COMMITTED: what a
/// statement has read may be different when the next one runs. So a write decides in its statement (`UPDATE … SET left =
/// left - 1 WHERE left > 0`), or locks the row that it decides on first (`FOR UPDATE`, see [`for_update!`](crate::for_update)),
/// and locks rows of one table in the order of their keys.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    path: String,
    backend: Backend,
    readers: Lane,
    writers: Lane,
    server: Option<Arc<Server>>,
    /// Of use cases that ask a server.
    together: Arc<Turns>,
    wakes: Wakes,
}

/// A pool, and the turns of those who may ask it for a connection. Waiting for a turn holds no thread.
#[derive(Clone)]
struct Lane {
    pool: Pool<Manager>,
    turns: Arc<Turns>,
    patience: Duration,
}

/// How busy the connections are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Connections that may be open.
    pub limit: u32,
    /// Connections that are open.
    pub open: u32,
    /// Connections that a call uses now.
    pub used: u32,
}

impl Db {
    /// Opens the SQLite file, or creates it, in write-ahead-log mode; or connects to the PostgreSQL server when the
    /// settings name one. Blocking: call it before serving.
    pub fn open(settings: &DatabaseSettings) -> Result<Self, DbError> {
        let inner = match settings.url.expose() {
            "" => open_file(settings)?,
            url => open_server(url, settings)?,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The file as the settings name it, or the server's `host:port/name`.
    pub fn path(&self) -> &str {
        &self.inner.path
    }

    /// Which database it is.
    pub fn backend(&self) -> Backend {
        self.inner.backend
    }

    /// How busy the connections are that read, and those that write; for a server they are the same.
    pub fn usage(&self) -> [Usage; 2] {
        [&self.inner.readers, &self.inner.writers].map(Lane::usage)
    }

    /// Runs `work` in one snapshot, off the async runtime. Writes nothing.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Conn) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + From<diesel::result::Error> + Send + 'static,
    {
        self.off_runtime(Access::Read, move |db, deadline, ending| {
            db.transact(Access::Read, deadline, ending, work)
        })
        .await
    }

    /// Runs `work`, which is exactly one statement that reads, off the async runtime and without a transaction: one
    /// statement is a snapshot of its own, and a server answers it in one round trip instead of three. It runs again if
    /// the connection turns out to be dead.
    pub async fn read_one<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: Fn(&mut Conn) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + From<diesel::result::Error> + Send + 'static,
    {
        self.off_runtime(Access::Read, move |db, deadline, _| db.ask(deadline, work)).await
    }

    /// Runs `work` in one transaction that writes, off the async runtime. An error rolls everything back. Once begun the
    /// work runs to its end, also when the caller stops waiting; only when the server has stopped answering is it
    /// given up, and then it does not commit unless it was about to.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Conn) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + From<diesel::result::Error> + Send + 'static,
    {
        self.off_runtime(Access::Write, move |db, deadline, ending| {
            db.transact(Access::Write, deadline, ending, work)
        })
        .await
    }

    /// Runs a use case that asks this database several times, other contexts' questions among them. Against a server it saves
    /// most of the way between threads, which costs as much as a question does. What is said of giving up at [`Db::write`]
    /// holds for the whole of it.
    pub async fn together<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let work = work.in_current_span();
        let Some(server) = &self.inner.server else {
            // The questions go their way one by one, in a task of its own: each answer then wakes the use case alone, and not
            // all that waits for it as well.
            return match tokio::spawn(work).await {
                Ok(outcome) => outcome,
                Err(stopped) => match stopped.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Err(DbError::Stopping.into()),
                },
            };
        };
        let (database, ending, began) = (self.identity(), Ending::default(), Instant::now());
        let (shared, lane) = (ending.clone(), &self.inner.writers);
        let task =
            self.inner.together.run(began + lane.patience, move || together::run(database, shared, work));
        let ended = server.wait(task, began, lane.patience).await;
        self.outcome(ended, Access::Write, &ending)
    }

    /// [`Db::read`] for threads that may block. Never gives up on a server that has stopped answering.
    pub fn read_blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Conn) -> Result<T, E>,
        E: From<DbError> + From<diesel::result::Error>,
    {
        self.transact(Access::Read, self.inner.readers.deadline(), &Ending::default(), work)
    }

    /// [`Db::write`] for threads that may block. Never gives up on a server that has stopped answering.
    pub fn write_blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Conn) -> Result<T, E>,
        E: From<DbError> + From<diesel::result::Error>,
    {
        self.transact(Access::Write, self.inner.writers.deadline(), &Ending::default(), work)
    }

    /// Whether the database answers. For health checks.
    pub async fn answers(&self) -> Result<(), DbError> {
        self.read_one(question).await
    }

    /// [`Db::answers`] for threads that may block, in words. Never gives up on a server that has stopped answering.
    pub fn check(&self) -> Result<(), String> {
        let asked = self.ask(self.inner.readers.deadline(), question);
        asked.map_err(|error| platform::error::chain(&error))
    }

    /// Those who sleep until there is new work in this database.
    pub(crate) fn wakes(&self) -> &Wakes {
        &self.inner.wakes
    }

    /// Connections that do not know the newest schemas are replaced before their next use.
    pub(crate) fn schemas_changed(&self) {
        if let Some(server) = &self.inner.server {
            server.schemas_changed();
        }
    }

    fn transact<T, E, F>(&self, access: Access, deadline: Instant, ending: &Ending, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Conn) -> Result<T, E>,
        E: From<DbError> + From<diesel::result::Error>,
    {
        let mut conn = self.begun(access, deadline)?;
        wake::begin();
        let done = work(&mut conn).and_then(|value| match ending.may_commit() {
            true => Ok(value),
            false => Err(DbError::GivenUp { path: self.path().to_owned() }.into()),
        });
        match done {
            Ok(value) => {
                transaction::commit(&mut conn).map_err(|error| error.explained(self.path()))?;
                self.inner.heard();
                self.inner.wakes.committed();
                Ok(value)
            }
            Err(error) => {
                transaction::roll_back(&mut conn);
                Err(error)
            }
        }
    }

    /// A connection in a transaction. One that turns out to be dead is replaced: nothing was done on it.
    fn begun(&self, access: Access, deadline: Instant) -> Result<PooledConnection<Manager>, DbError> {
        loop {
            let mut conn = self.connection(access, deadline)?;
            match transaction::begin(&mut conn, access) {
                Ok(()) => {
                    self.inner.heard();
                    return Ok(conn);
                }
                Err(_) if conn.is_dead() && Instant::now() < deadline => {}
                Err(source) => return Err(DbError::Begin { path: self.path().to_owned(), source }),
            }
        }
    }

    fn ask<T, E, F>(&self, deadline: Instant, work: F) -> Result<T, E>
    where
        F: Fn(&mut Conn) -> Result<T, E>,
        E: From<DbError>,
    {
        loop {
            let mut conn = self.connection(Access::Read, deadline)?;
            let answer = work(&mut conn);
            if answer.is_ok() {
                self.inner.heard();
                return answer;
            }
            if !conn.is_dead() || Instant::now() >= deadline {
                return answer;
            }
        }
    }

    fn connection(&self, access: Access, deadline: Instant) -> Result<PooledConnection<Manager>, DbError> {
        let lane = self.inner.lane(access);
        let left = deadline.saturating_duration_since(Instant::now());
        lane.pool.get_timeout(left).map_err(|error| self.inner.no_connection(lane, Some(&error)))
    }

    /// Waits without a thread for its turn, then in one for the work; for a server no longer than it answers.
    async fn off_runtime<T, E, F>(&self, access: Access, work: F) -> Result<T, E>
    where
        F: FnOnce(&Self, Instant, &Ending) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let lane = self.inner.lane(access);
        let began = Instant::now();
        let deadline = began + lane.patience;
        if let Some(shared) = together::running(self.identity()) {
            // A read decides nothing.
            let ending = if matches!(access, Access::Write) { shared } else { Ending::default() };
            return work(self, deadline, &ending);
        }
        let (db, ending) = (self.clone(), Ending::default());
        let shared = ending.clone();
        let task = lane.turns.run(deadline, move || work(&db, deadline, &shared));
        let ended = match &self.inner.server {
            None => Some(task.await),
            Some(server) => server.wait(task, began, lane.patience).await,
        };
        self.outcome(ended, access, &ending)
    }

    /// What work came to; what was given up on comes to nothing, unless it was about to commit.
    fn outcome<T, E: From<DbError>>(
        &self,
        ended: Option<Result<Result<T, E>, NotRun>>,
        access: Access,
        ending: &Ending,
    ) -> Result<T, E> {
        let error = match ended {
            Some(Ok(outcome)) => return outcome,
            Some(Err(NotRun::Late)) => self.inner.no_connection(self.inner.lane(access), None),
            Some(Err(NotRun::Stopping)) => DbError::Stopping,
            None => DbError::Silent {
                path: self.path().to_owned(),
                maybe_done: matches!(access, Access::Write) && !ending.give_up(),
            },
        };
        Err(error.into())
    }

    /// Tells this database from others, as long as a clone of it is there.
    fn identity(&self) -> usize {
        Arc::as_ptr(&self.inner).addr()
    }
}

impl Inner {
    fn heard(&self) {
        if let Some(server) = &self.server {
            server.liveness.heard();
        }
    }

    fn lane(&self, access: Access) -> &Lane {
        match access {
            Access::Read => &self.readers,
            Access::Write => &self.writers,
        }
    }

    fn no_connection(&self, lane: &Lane, error: Option<&dyn std::error::Error>) -> DbError {
        let reason = error.map_or_else(|| "all are in use".to_owned(), ToString::to_string);
        let remedy = match self.backend {
            Backend::Sqlite => "raise database.readers or database.busy_timeout_ms",
            Backend::Postgres => "see that the server runs, or raise database.connections",
        };
        let waited_ms = u64::try_from(lane.patience.as_millis()).unwrap_or(u64::MAX);
        DbError::NoConnection { path: self.path.clone(), waited_ms, reason, remedy }
    }
}

impl Lane {
    fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    fn usage(&self) -> Usage {
        let state = self.pool.state();
        let used = state.connections.saturating_sub(state.idle_connections);
        Usage { limit: self.pool.max_size(), open: state.connections, used }
    }
}

/// The cheapest one that needs the database itself.
fn question(conn: &mut Conn) -> Result<(), DbError> {
    let question = match conn {
        Conn::Sqlite(_) => "SELECT count(*) FROM sqlite_schema",
        Conn::Postgres(_) => "SELECT 1",
    };
    sql_query(question).execute(conn)?;
    Ok(())
}

fn open_file(settings: &DatabaseSettings) -> Result<Inner, DbError> {
    let path = settings.path.display().to_string();
    let absolute = sqlite::usable(settings)?;
    let patience = Duration::from_millis(settings.busy_timeout_ms.max(1));
    let lane = |size: u32, role| {
        let manager = Manager::Sqlite { path: absolute.clone(), settings: settings.clone(), role };
        let pool = Pool::builder()
            .max_size(size)
            .connection_timeout(patience)
            .error_handler(Box::new(NopErrorHandler))
            .build(manager)
            .map_err(|error| DbError::Open {
                path: path.clone(),
                reason: error.to_string(),
                remedy: "see that the file and its folder can be written".to_owned(),
            });
        pool.map(|pool| Lane::new(pool, size, patience))
    };
    let (readers, writers) = (lane(settings.readers.max(1), Role::Reader)?, lane(1, Role::Writer)?);
    Ok(Inner {
        path,
        backend: Backend::Sqlite,
        readers,
        writers,
        server: None,
        together: Turns::of(1),
        wakes: Wakes::default(),
    })
}

fn open_server(url: &str, settings: &DatabaseSettings) -> Result<Inner, DbError> {
    let path = postgres::place(url);
    let server = Arc::new(Server::new(settings));
    server.connect().map_err(|reason| DbError::Open {
        path: path.clone(),
        reason,
        remedy: "start the server, or set database.url to postgres://user:password@host:port/name".to_owned(),
    })?;
    let patience = Duration::from_millis(settings.acquire_timeout_ms);
    let size = settings.connections.max(1);
    let pool = Pool::builder()
        .max_size(size)
        // Opened as they are needed: after an outage the pool would else be busy with connections that nobody waits for.
        .min_idle(Some(0))
        .idle_timeout(Some(POSTGRES_IDLE))
        // Bounds the pause between attempts to connect as well, to a half of it.
        .connection_timeout(patience)
        .error_handler(Box::new(NopErrorHandler))
        .build_unchecked(Manager::Postgres(Arc::clone(&server)));
    let lane = Lane::new(pool, size, patience);
    Ok(Inner {
        path,
        backend: Backend::Postgres,
        readers: lane.clone(),
        writers: lane,
        server: Some(server),
        // One for each connection: with more, threads would wait for connections.
        together: Turns::of(size),
        wakes: Wakes::default(),
    })
}

impl Lane {
    fn new(pool: Pool<Manager>, size: u32, patience: Duration) -> Self {
        Self { pool, turns: Turns::of(size), patience }
    }
}

#[cfg(test)]
mod outage;
#[cfg(test)]
mod tests;
