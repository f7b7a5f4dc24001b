//! Where a watch finds out about changes: in a file by its version, on a server by its announcements.
//!
//! Invariant: whatever an announcement missed is found by reading everything once a second, and after every reconnect
//! at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::backend::Backend;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::BigInt;

use crate::clock::store_now_ms;
use crate::conn::Conn;
use crate::error::ControlError;
use crate::file::File;
use crate::flag::Flag;
use crate::flags::load_all;
use crate::instances::{Heartbeat, write_heartbeat};
use crate::postgres::Server;
use crate::store::{ControlStore, Home};
use crate::transaction::{self, Access, CHANNEL, Ending};

/// The flags are read that often without a sign of a change, too: a report of lag grows old by itself, and an
/// announcement may be missed.
const LOOK_ANYHOW: Duration = Duration::from_secs(1);

/// A store, and the connection on which it is watched.
pub(super) struct Source {
    place: Place,
    conn: Option<Conn>,
    /// When the flags were last read, and the file's version then.
    seen: Option<(i64, Instant)>,
}

enum Place {
    File(Arc<File>),
    Server(Arc<Server>),
}

/// What a look has found.
#[derive(Default)]
pub(super) struct Found {
    /// When the store answered, if it was asked.
    pub(super) asked_at: Option<Instant>,
    /// The flags, if they may have changed.
    pub(super) flags: Option<Vec<Flag>>,
}

impl Source {
    pub(super) fn new(store: &ControlStore) -> Self {
        let place = match store.home() {
            Home::File(file) => Place::File(Arc::clone(file)),
            Home::Server(server) => Place::Server(Arc::clone(server)),
        };
        Self { place, conn: None, seen: None }
    }

    /// Begins anew with a new connection.
    pub(super) fn reset(&mut self) {
        self.conn = None;
        self.seen = None;
    }

    pub(super) fn look(&mut self, store: &ControlStore) -> Result<Found, ControlError> {
        match &self.place {
            Place::File(file) => {
                let file = Arc::clone(file);
                self.look_at_file(&file, store)
            }
            Place::Server(server) => {
                let server = Arc::clone(server);
                self.look_at_server(&server, store)
            }
        }
    }

    /// Takes a sign of life to the store.
    pub(super) fn report(&mut self, heartbeat: Heartbeat) -> Result<(), ControlError> {
        let Some(mut conn) = self.conn.take() else { return Ok(()) };
        let ending = Ending::default();
        let shared = ending.clone();
        let report = move || {
            let done = transaction::run(&mut conn, Access::Report, &shared, |conn| {
                write_heartbeat(conn, &heartbeat)
            });
            done.map(|()| conn)
        };
        let done = match &self.place {
            Place::File(_) => report(),
            Place::Server(server) => server.within(report),
        };
        // A word that was given up on must not be heard after a newer one.
        self.conn = Some(done.inspect_err(|_| {
            ending.give_up();
        })?);
        Ok(())
    }

    fn look_at_file(&mut self, file: &File, store: &ControlStore) -> Result<Found, ControlError> {
        file.needs_same()?;
        let conn = match &mut self.conn {
            Some(conn) => conn,
            None => self.conn.insert(Conn::Sqlite(file.watching()?)),
        };
        // It changes with every commit by another connection.
        let version = DataVersion.get_result::<i64>(conn)?;
        let asked_at = Some(Instant::now());
        if self.seen.is_some_and(|(seen, at)| seen == version && at.elapsed() < LOOK_ANYHOW) {
            return Ok(Found { asked_at, flags: None });
        }
        // What SQLite remembers of the file stays right for it until a commit, so a file that was overwritten is only
        // noticed by who forgets it.
        conn.batch_execute("PRAGMA shrink_memory;")?;
        let flags = load_all(conn, store.settings())?;
        self.seen = Some((version, Instant::now()));
        Ok(Found { asked_at, flags: Some(flags) })
    }

    /// Looking for announcements asks nobody: they have come over the connection, or they have not.
    fn look_at_server(&mut self, server: &Arc<Server>, store: &ControlStore) -> Result<Found, ControlError> {
        let is_changed = match &mut self.conn {
            Some(conn) => announced(conn)?,
            None => true,
        };
        if !is_changed && self.seen.is_some_and(|(_, at)| at.elapsed() < LOOK_ANYHOW) {
            return Ok(Found::default());
        }
        let (listening, conn, settings) = (Arc::clone(server), self.conn.take(), store.shared_settings());
        let (conn, flags) = server.within(move || {
            let mut conn = match conn {
                Some(conn) => conn,
                None => listen(&listening)?,
            };
            listening.ahead().learn(store_now_ms(&mut conn)?);
            let flags = load_all(&mut conn, &settings)?;
            Ok((conn, flags))
        })?;
        let now = Instant::now();
        self.conn = Some(conn);
        self.seen = Some((0, now));
        let flags = flags.into_iter().map(|flag| store.local(flag)).collect();
        Ok(Found { asked_at: Some(now), flags: Some(flags) })
    }
}

/// Listens before the first reading, so no change falls between the two.
fn listen(server: &Server) -> Result<Conn, ControlError> {
    let mut conn = server.connect()?;
    conn.batch_execute(&format!("LISTEN {CHANNEL}"))?;
    Ok(Conn::Postgres(conn))
}

/// Whether a change was announced since the last look.
fn announced(conn: &mut Conn) -> Result<bool, ControlError> {
    let Conn::Postgres(conn) = conn else { return Ok(false) };
    let mut any = false;
    for announcement in conn.notifications_iter() {
        announcement?;
        any = true;
    }
    Ok(any)
}

/// Asked at every look, so it is a query that diesel knows again and prepares once.
#[derive(QueryId)]
struct DataVersion;

impl Query for DataVersion {
    type SqlType = BigInt;
}

impl<DB: Backend> QueryFragment<DB> for DataVersion {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        pass.push_sql("PRAGMA data_version");
        Ok(())
    }
}

impl<C> RunQueryDsl<C> for DataVersion {}
