//! A SQLite file with the monolith's pragmas: four readers and one writer.
//!
//! Invariant: a commit waits for the disk.

use anyhow::Result;
use diesel::connection::SimpleConnection;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Error, Pool};
use diesel::{QueryResult, SqliteConnection};

use crate::json::{Order, OrderBody, User};
use crate::server::Database;

#[expect(
    clippy::duplicate_mod,
    reason = "compiled for each connection, as no short bound names what both can do"
)]
#[path = "statements.rs"]
mod statements;

type Conn = SqliteConnection;
type Connections = Pool<ConnectionManager<Conn>>;

#[derive(Clone)]
pub(crate) struct Sqlite {
    readers: Connections,
    writer: Connections,
}

impl Sqlite {
    pub(crate) fn open(path: &str) -> Result<Self> {
        let reader = "PRAGMA busy_timeout = 5000; PRAGMA query_only = ON";
        let writer = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON; PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 4000";
        Ok(Self { readers: pool(path, 4, reader)?, writer: pool(path, 1, writer)? })
    }
}

impl Database for Sqlite {
    fn user(&self, id: i64) -> Result<Option<User>> {
        statements::user(&mut *self.readers.get()?, id)
    }

    fn place(&self, body: OrderBody) -> Result<Option<Order>> {
        let priced = statements::priced(&mut *self.readers.get()?, body)?;
        let Some(priced) = priced else { return Ok(None) };
        let conn = &mut *self.writer.get()?;
        conn.immediate_transaction(|conn| statements::place(conn, priced)).map(Some)
    }

    fn update_events(&self) -> Result<usize> {
        statements::update_events(&mut *self.writer.get()?)
    }
}

fn pool(path: &str, size: u32, pragmas: &'static str) -> Result<Connections> {
    let pool = Pool::builder()
        .max_size(size)
        // As the monolith does: a connection to a file does not go stale.
        .test_on_check_out(false)
        .connection_customizer(Box::new(Pragmas(pragmas)));
    Ok(pool.build(ConnectionManager::new(path))?)
}

#[derive(Debug)]
struct Pragmas(&'static str);

impl CustomizeConnection<Conn, Error> for Pragmas {
    fn on_acquire(&self, conn: &mut Conn) -> Result<(), Error> {
        let prepared: QueryResult<()> = conn.batch_execute(self.0);
        prepared.map_err(Error::QueryError)
    }
}
