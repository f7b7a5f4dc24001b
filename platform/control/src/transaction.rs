//! How transactions begin and end on each database.
//!
//! Invariants: whatever decides has the store to itself from the start of its transaction to the end, so what it
//! checked is still true when it commits, and fencing tokens only grow; whoever gives up on a transaction either keeps
//! it from committing or knows that it may have.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use diesel::QueryResult;
use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};

use crate::conn::{Conn, on_each};
use crate::error::ControlError;

/// What a transaction may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads one snapshot.
    Read,
    /// Checks, changes, and tells all who listen.
    Decide,
    /// Replaces what this process alone says, such as a sign of life. One that is lost in a crash is no loss.
    Report,
}

/// PostgreSQL has the one row of `form` as the lock of the writers: whoever decides waits for it first.
const LOCK: &str = "SELECT version FROM form FOR UPDATE";
/// The channel on which PostgreSQL announces changes; a channel belongs to one database.
pub(crate) const CHANNEL: &str = "banyan_control";

/// Runs `work` in one transaction; an error rolls it back, and so does a caller who has given up.
pub(crate) fn run<T>(
    conn: &mut Conn,
    access: Access,
    ending: &Ending,
    work: impl FnOnce(&mut Conn) -> Result<T, ControlError>,
) -> Result<T, ControlError> {
    begin(conn, access)?;
    let done = work(conn).and_then(|value| {
        if access == Access::Decide {
            announce(conn)?;
        }
        if ending.may_commit() { Ok(value) } else { Err(ControlError::GivenUp) }
    });
    match done {
        Ok(value) => {
            on_each!(conn, |conn| AnsiTransactionManager::commit_transaction(conn))?;
            Ok(value)
        }
        Err(error) => {
            // A connection that cannot even roll back is broken, and nobody takes it again.
            let _ = on_each!(conn, |conn| AnsiTransactionManager::rollback_transaction(conn));
            Err(error)
        }
    }
}

fn begin(conn: &mut Conn, access: Access) -> Result<(), ControlError> {
    let begin = match (&*conn, access) {
        (Conn::Sqlite(_), Access::Read) => "BEGIN",
        (Conn::Sqlite(_), _) => "BEGIN IMMEDIATE",
        (Conn::Postgres(_), Access::Read) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        (Conn::Postgres(_), _) => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
    };
    on_each!(conn, |conn| AnsiTransactionManager::begin_transaction_sql(conn, begin))?;
    let Conn::Postgres(server) = &mut *conn else { return Ok(()) };
    let prepared = match access {
        Access::Read => Ok(()),
        Access::Decide => server.batch_execute(LOCK),
        Access::Report => server.batch_execute("SET LOCAL synchronous_commit = off"),
    };
    if prepared.is_err() {
        let _ = AnsiTransactionManager::rollback_transaction(server);
    }
    Ok(prepared?)
}

/// Tells all who listen, when the transaction commits. Those who watch a file find out by themselves.
pub(crate) fn announce(conn: &mut Conn) -> QueryResult<()> {
    match conn {
        Conn::Sqlite(_) => Ok(()),
        Conn::Postgres(conn) => conn.batch_execute(&format!("NOTIFY {CHANNEL}")),
    }
}

/// Who decides how a transaction ends: the thread that runs it, by committing, or the caller, by giving up. The first
/// one wins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending(Arc<AtomicU8>);

const OPEN: u8 = 0;
const COMMITTING: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Ending {
    fn may_commit(&self) -> bool {
        self.decide(COMMITTING) != GIVEN_UP
    }

    /// Whether nothing will be committed any more.
    pub(crate) fn give_up(&self) -> bool {
        self.decide(GIVEN_UP) != COMMITTING
    }

    /// Decides, unless that was done, and returns what was decided before.
    fn decide(&self, way: u8) -> u8 {
        match self.0.compare_exchange(OPEN, way, Ordering::AcqRel, Ordering::Acquire) {
            Ok(before) | Err(before) => before,
        }
    }
}
