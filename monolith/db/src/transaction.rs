//! How transactions begin and end on each database.
//!
//! Invariant: a transaction that is reported as committed was committed, and whoever gives up on one either keeps it from
//! committing or knows that it may have.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use diesel::QueryResult;
use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::result::Error;

use crate::DbError;
use crate::conn::Conn;
use crate::manager::Pooled;

/// What a transaction may do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Who decides how transactions end: the thread that runs them, by committing, or the caller, by giving up. The first one
/// wins.
#[derive(Clone, Default)]
pub(crate) struct Ending {
    decided: Arc<AtomicU8>,
}

const OPEN: u8 = 0;
const COMMITTING: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Ending {
    /// Whether the caller has not given up, and so the thread may commit.
    pub(crate) fn may_commit(&self) -> bool {
        self.decide(COMMITTING) != GIVEN_UP
    }

    /// Whether the thread has not committed anything, and so the caller knows that nothing will be done.
    pub(crate) fn give_up(&self) -> bool {
        self.decide(GIVEN_UP) != COMMITTING
    }

    /// Decides, unless that was done, and returns what was decided before.
    fn decide(&self, way: u8) -> u8 {
        match self.decided.compare_exchange(OPEN, way, Ordering::AcqRel, Ordering::Acquire) {
            Ok(before) | Err(before) => before,
        }
    }
}

/// Why a commit failed.
pub(crate) enum CommitError {
    /// The database refused it, so nothing was done.
    Refused(Error),
    /// The answer is missing.
    Unknown(Error),
}

impl CommitError {
    pub(crate) fn explained(self, path: &str) -> DbError {
        match self {
            Self::Refused(source) => DbError::Statement(source),
            Self::Unknown(source) => DbError::End { path: path.to_owned(), source },
        }
    }
}

pub(crate) fn begin(conn: &mut Conn, access: Access) -> QueryResult<()> {
    match (conn, access) {
        (Conn::Sqlite(conn), Access::Read) => AnsiTransactionManager::begin_transaction(conn),
        (Conn::Sqlite(conn), Access::Write) => {
            AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE")
        }
        (Conn::Postgres(conn), Access::Read) => AnsiTransactionManager::begin_transaction_sql(
            conn,
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        ),
        (Conn::Postgres(conn), Access::Write) => AnsiTransactionManager::begin_transaction_sql(
            conn,
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
        ),
    }
}

/// PostgreSQL answers the COMMIT of a transaction in which a statement failed with a rollback and no error. The savepoint
/// before it, in the same round trip, does fail then.
pub(crate) fn commit(conn: &mut Pooled) -> Result<(), CommitError> {
    let committed = match &mut **conn {
        Conn::Sqlite(conn) => {
            return AnsiTransactionManager::commit_transaction(conn).map_err(CommitError::Unknown);
        }
        Conn::Postgres(conn) => conn.batch_execute("SAVEPOINT done; COMMIT"),
    };
    committed.map_err(|error| {
        roll_back(conn);
        if conn.is_dead() { CommitError::Unknown(error) } else { CommitError::Refused(error) }
    })
}

/// A connection that cannot even roll back is broken, and the pool drops it.
pub(crate) fn roll_back(conn: &mut Conn) {
    let _ = match conn {
        Conn::Sqlite(conn) => AnsiTransactionManager::rollback_transaction(conn),
        Conn::Postgres(conn) => AnsiTransactionManager::rollback_transaction(conn),
    };
}
