//! What the pools know of connections: how one is made, and which must not be used again.
//!
//! Invariant: a connection goes back to the pool only outside a transaction and, as far as it knows itself, alive.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use diesel::r2d2::{ManageConnection, R2D2Connection};

use crate::DatabaseSettings;
use crate::conn::Conn;
use crate::postgres::Server;
use crate::sqlite::{self, Role};

/// Makes connections of one kind.
pub(crate) enum Manager {
    Sqlite { path: String, settings: DatabaseSettings, role: Role },
    Postgres(Arc<Server>),
}

/// A connection, and the layout of schemas that it knows.
pub(crate) struct Pooled {
    conn: Conn,
    layout: u64,
}

impl Pooled {
    /// Whether the server is gone. SQLite has none.
    pub(crate) fn is_dead(&mut self) -> bool {
        match &mut self.conn {
            Conn::Sqlite(_) => false,
            Conn::Postgres(conn) => conn.is_broken(),
        }
    }
}

impl Deref for Pooled {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}

/// Why a connection cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConnectError(String);

impl ManageConnection for Manager {
    type Connection = Pooled;
    type Error = ConnectError;

    fn connect(&self) -> Result<Pooled, ConnectError> {
        match self {
            Self::Sqlite { path, settings, role } => {
                let conn = sqlite::connect(path, settings, *role).map_err(ConnectError)?;
                Ok(Pooled { conn: Conn::Sqlite(conn), layout: 0 })
            }
            Self::Postgres(server) => {
                let (conn, layout) = server.connect().map_err(ConnectError)?;
                Ok(Pooled { conn: Conn::Postgres(conn), layout })
            }
        }
    }

    /// Asks nobody: a connection to a file does not go stale, and one to a server proves itself by its first statement,
    /// before anything is done.
    fn is_valid(&self, conn: &mut Pooled) -> Result<(), ConnectError> {
        match self {
            Self::Postgres(server) if server.layout() != conn.layout => {
                Err(ConnectError("the schemas have changed".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn has_broken(&self, conn: &mut Pooled) -> bool {
        std::thread::panicking() || conn.is_broken()
    }
}
