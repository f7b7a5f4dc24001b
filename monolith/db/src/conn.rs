//! One connection type for both databases, so that a store is written once.
//!
//! Invariant: a statement goes to the backend whose connection it was given, in that backend's dialect.
#![expect(missing_docs, reason = "the derive makes public items that nobody can document")]

use diesel::{PgConnection, SqliteConnection};

/// A connection inside a transaction. Where the dialects differ, match on it; where only diesel's types do, use
/// [`on_each!`](crate::on_each).
#[derive(diesel::MultiConnection)]
pub enum Conn {
    /// A SQLite file.
    Sqlite(SqliteConnection),
    /// A PostgreSQL server.
    Postgres(PgConnection),
}

/// Runs one expression on whichever connection it is: for `ON CONFLICT`, which diesel knows for each backend but not for
/// both. `on_each!(conn, |conn| diesel::insert_into(…).on_conflict(…).do_update().set(…).execute(conn))`
#[macro_export]
macro_rules! on_each {
    ($conn:expr, |$each:ident| $work:expr) => {
        match $conn {
            $crate::Conn::Sqlite($each) => $work,
            $crate::Conn::Postgres($each) => $work,
        }
    };
}

/// Loads rows that nobody else may change before this transaction ends: `for_update!(conn, query, get_result)`. SQLite has
/// one writer, so there it is the query itself.
#[macro_export]
macro_rules! for_update {
    ($conn:expr, $query:expr, $load:ident) => {
        match $conn {
            $crate::Conn::Sqlite(conn) => $query.$load(conn),
            $crate::Conn::Postgres(conn) => $query.for_update().$load(conn),
        }
    };
}
