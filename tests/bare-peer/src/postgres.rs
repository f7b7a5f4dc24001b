//! A PostgreSQL database, with the monolith's sixteen connections and search path.
//!
//! Invariant: a request has one connection for all of its statements.

use anyhow::Result;
use diesel::connection::SimpleConnection;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Error, Pool};
use diesel::{Connection, PgConnection};

use crate::json::{Order, OrderBody, User};
use crate::server::Database;

#[expect(
    clippy::duplicate_mod,
    reason = "compiled for each connection, as no short bound names what both can do"
)]
#[path = "statements.rs"]
mod statements;

type Conn = PgConnection;

/// Each context has a schema of its name.
const PREPARE: &str = "SET statement_timeout = 5000; SET lock_timeout = 2000;
    SET search_path = banyan, users, catalog, orders, public";

#[derive(Clone)]
pub(crate) struct Postgres(Pool<ConnectionManager<Conn>>);

impl Postgres {
    pub(crate) fn open(url: &str) -> Result<Self> {
        let pool = Pool::builder()
            .max_size(16)
            .min_idle(Some(0))
            // As the monolith does: the first statement proves the connection.
            .test_on_check_out(false)
            .connection_customizer(Box::new(Prepare));
        Ok(Self(pool.build(ConnectionManager::new(url))?))
    }
}

impl Database for Postgres {
    fn user(&self, id: i64) -> Result<Option<User>> {
        statements::user(&mut *self.0.get()?, id)
    }

    fn place(&self, body: OrderBody) -> Result<Option<Order>> {
        let conn = &mut *self.0.get()?;
        let Some(priced) = statements::priced(conn, body)? else { return Ok(None) };
        conn.transaction(|conn| statements::place(conn, priced)).map(Some)
    }

    fn update_events(&self) -> Result<usize> {
        statements::update_events(&mut *self.0.get()?)
    }
}

#[derive(Debug)]
struct Prepare;

impl CustomizeConnection<Conn, Error> for Prepare {
    fn on_acquire(&self, conn: &mut Conn) -> Result<(), Error> {
        conn.batch_execute(PREPARE).map_err(Error::QueryError)
    }
}
