//! One connection type for both databases, so that every operation is written once.
//!
//! Invariant: a statement goes to the database whose connection it was given, in that database's dialect.
#![expect(unreachable_pub, reason = "the derive makes public items inside a private module")]

use diesel::{PgConnection, SqliteConnection};

/// A connection to the control store.
#[derive(diesel::MultiConnection)]
pub enum Conn {
    /// The SQLite file.
    Sqlite(SqliteConnection),
    /// The PostgreSQL server.
    Postgres(PgConnection),
}

/// Runs one expression on whichever connection it is: for `ON CONFLICT` and transactions, which diesel knows for each
/// database but not for both.
macro_rules! on_each {
    ($conn:expr, |$each:ident| $work:expr) => {
        match $conn {
            $crate::conn::Conn::Sqlite($each) => $work,
            $crate::conn::Conn::Postgres($each) => $work,
        }
    };
}

pub(crate) use on_each;
