//! The control store's tables: one statement list per database, applied when the store is new, and tables that came later.
//!
//! Invariant: which form a store has is written in it (`user_version` in a file, the one row of `form` on a server), and a
//! store of another form is refused.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool};

use crate::error::ControlError;
use crate::postgres::Missing;

/// Raised with every change of the tables below.
const VERSION: i64 = 1;

/// The PostgreSQL schema of the tables.
pub(crate) const NAMESPACE: &str = "banyan_control";

const CREATE_SQLITE: &str = "
CREATE TABLE flags (
    context TEXT PRIMARY KEY,
    reads INTEGER NOT NULL CHECK (reads BETWEEN 0 AND 10000),
    writes TEXT NOT NULL CHECK (writes IN ('monolith', 'service')),
    token BIGINT NOT NULL,
    dual_write BOOLEAN NOT NULL,
    data TEXT NOT NULL CHECK (data IN ('replicated', 'shared')),
    forced BOOLEAN NOT NULL,
    changed_at_ms BIGINT NOT NULL,
    hold_token BIGINT,
    hold_to TEXT CHECK (hold_to IN ('monolith', 'service')),
    hold_began_ms BIGINT,
    hold_deadline_ms BIGINT,
    hold_flipped BOOLEAN
);
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms BIGINT NOT NULL,
    context TEXT NOT NULL,
    token BIGINT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    action TEXT NOT NULL,
    from_state TEXT NOT NULL,
    to_state TEXT NOT NULL,
    forced BOOLEAN NOT NULL,
    evidence TEXT
);
CREATE INDEX audit_context ON audit(context, id);
CREATE TABLE instances (
    instance TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    heartbeat_at_ms BIGINT NOT NULL
);
CREATE TABLE acks (
    instance TEXT NOT NULL,
    context TEXT NOT NULL,
    token BIGINT NOT NULL,
    held BOOLEAN NOT NULL,
    PRIMARY KEY (instance, context)
);
CREATE TABLE lag (
    context TEXT PRIMARY KEY,
    pending BIGINT NOT NULL,
    oldest_ms BIGINT NOT NULL,
    at_ms BIGINT NOT NULL
);
CREATE TABLE backfills (
    context TEXT PRIMARY KEY,
    rows BIGINT NOT NULL,
    at_ms BIGINT NOT NULL
);
CREATE TABLE verifications (
    context TEXT PRIMARY KEY,
    clean BOOLEAN NOT NULL,
    rows BIGINT NOT NULL,
    differences BIGINT NOT NULL,
    position BIGINT NOT NULL,
    mapping_hash TEXT NOT NULL,
    evidence TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);
";

/// Added to stores that were made before there were any; who does not know of them is not disturbed by them.
const CREATE_LATER: &str = "
CREATE TABLE IF NOT EXISTS captures (
    context TEXT PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS pins (
    context TEXT NOT NULL,
    key TEXT NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('monolith', 'service')),
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (context, key)
);
";

const CREATE_POSTGRES: &str = "
CREATE TABLE flags (
    context TEXT PRIMARY KEY,
    reads BIGINT NOT NULL CHECK (reads BETWEEN 0 AND 10000),
    writes TEXT NOT NULL CHECK (writes IN ('monolith', 'service')),
    token BIGINT NOT NULL,
    dual_write BOOLEAN NOT NULL,
    data TEXT NOT NULL CHECK (data IN ('replicated', 'shared')),
    forced BOOLEAN NOT NULL,
    changed_at_ms BIGINT NOT NULL,
    hold_token BIGINT,
    hold_to TEXT CHECK (hold_to IN ('monolith', 'service')),
    hold_began_ms BIGINT,
    hold_deadline_ms BIGINT,
    hold_flipped BOOLEAN
);
CREATE TABLE audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    context TEXT NOT NULL,
    token BIGINT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    action TEXT NOT NULL,
    from_state TEXT NOT NULL,
    to_state TEXT NOT NULL,
    forced BOOLEAN NOT NULL,
    evidence TEXT
);
CREATE INDEX audit_context ON audit(context, id);
CREATE TABLE instances (
    instance TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    heartbeat_at_ms BIGINT NOT NULL
);
CREATE TABLE acks (
    instance TEXT NOT NULL,
    context TEXT NOT NULL,
    token BIGINT NOT NULL,
    held BOOLEAN NOT NULL,
    PRIMARY KEY (instance, context)
);
CREATE TABLE lag (
    context TEXT PRIMARY KEY,
    pending BIGINT NOT NULL,
    oldest_ms BIGINT NOT NULL,
    at_ms BIGINT NOT NULL
);
CREATE TABLE backfills (
    context TEXT PRIMARY KEY,
    rows BIGINT NOT NULL,
    at_ms BIGINT NOT NULL
);
CREATE TABLE verifications (
    context TEXT PRIMARY KEY,
    clean BOOLEAN NOT NULL,
    rows BIGINT NOT NULL,
    differences BIGINT NOT NULL,
    position BIGINT NOT NULL,
    mapping_hash TEXT NOT NULL,
    evidence TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);
CREATE TABLE form (
    one BOOLEAN PRIMARY KEY CHECK (one),
    version BIGINT NOT NULL
);
";

diesel::table! {
    flags (context) {
        context -> Text,
        reads -> BigInt,
        writes -> Text,
        token -> BigInt,
        dual_write -> Bool,
        data -> Text,
        forced -> Bool,
        changed_at_ms -> BigInt,
        hold_token -> Nullable<BigInt>,
        hold_to -> Nullable<Text>,
        hold_began_ms -> Nullable<BigInt>,
        hold_deadline_ms -> Nullable<BigInt>,
        hold_flipped -> Nullable<Bool>,
    }
}

diesel::table! {
    audit (id) {
        id -> BigInt,
        at_ms -> BigInt,
        context -> Text,
        token -> BigInt,
        actor -> Text,
        reason -> Text,
        action -> Text,
        from_state -> Text,
        to_state -> Text,
        forced -> Bool,
        evidence -> Nullable<Text>,
    }
}

diesel::table! {
    instances (instance) {
        instance -> Text,
        kind -> Text,
        heartbeat_at_ms -> BigInt,
    }
}

diesel::table! {
    acks (instance, context) {
        instance -> Text,
        context -> Text,
        token -> BigInt,
        held -> Bool,
    }
}

diesel::table! {
    lag (context) {
        context -> Text,
        pending -> BigInt,
        oldest_ms -> BigInt,
        at_ms -> BigInt,
    }
}

diesel::table! {
    backfills (context) {
        context -> Text,
        rows -> BigInt,
        at_ms -> BigInt,
    }
}

diesel::table! {
    verifications (context) {
        context -> Text,
        clean -> Bool,
        rows -> BigInt,
        differences -> BigInt,
        position -> BigInt,
        mapping_hash -> Text,
        evidence -> Text,
        at_ms -> BigInt,
    }
}

diesel::table! {
    pins (context, key) {
        context -> Text,
        key -> Text,
        side -> Text,
        actor -> Text,
        reason -> Text,
        at_ms -> BigInt,
    }
}

diesel::table! {
    captures (context) {
        context -> Text,
    }
}

diesel::allow_tables_to_appear_in_same_query!(flags, lag);

#[derive(QueryableByName)]
struct UserVersion {
    #[diesel(sql_type = BigInt)]
    user_version: i64,
}

#[derive(QueryableByName)]
struct Form {
    #[diesel(sql_type = BigInt)]
    version: i64,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Bool)]
    found: bool,
}

/// Creates the tables in a new file; refuses a file of another form.
pub(crate) fn ensure_file(conn: &mut SqliteConnection, path: &str) -> Result<(), ControlError> {
    conn.immediate_transaction(|conn| {
        let found = diesel::sql_query("PRAGMA user_version").get_result::<UserVersion>(conn)?.user_version;
        match found {
            VERSION => Ok(conn.batch_execute(CREATE_LATER)?),
            0 => Ok(conn.batch_execute(&format!(
                "{CREATE_SQLITE} {CREATE_LATER} PRAGMA user_version = {VERSION};"
            ))?),
            _ => Err(another_form(found, path)),
        }
    })
}

/// Creates the tables where there are none, if that is wanted; refuses tables of another form. Of several processes
/// that begin at once, one creates them and the others wait.
pub(crate) fn ensure_server(
    conn: &mut PgConnection,
    place: &str,
    missing: Missing,
) -> Result<(), ControlError> {
    if !has_table(conn, "form")? {
        if missing == Missing::Refuse {
            let what = "there is no control store in this database";
            return Err(ControlError::Missing { place: place.to_owned(), what });
        }
        create_tables(conn)?;
    }
    // In a transaction of its own: within the one that waited, names that were unknown before stay unknown.
    let found = diesel::sql_query("SELECT version FROM form").get_result::<Form>(conn)?.version;
    if found != VERSION {
        return Err(another_form(found, place));
    }
    if !has_table(conn, "pins")? || !has_table(conn, "captures")? {
        alone(conn, |conn| {
            conn.batch_execute(&format!("SET LOCAL search_path = {NAMESPACE}; {CREATE_LATER}"))
        })?;
    }
    Ok(())
}

fn create_tables(conn: &mut PgConnection) -> QueryResult<()> {
    alone(conn, |conn| {
        if has_table(conn, "form")? {
            return Ok(());
        }
        conn.batch_execute(&format!(
            "CREATE SCHEMA IF NOT EXISTS {NAMESPACE}; {CREATE_POSTGRES} {CREATE_LATER} INSERT INTO form VALUES (true, {VERSION});"
        ))
    })
}

/// One process at a time makes tables.
fn alone(
    conn: &mut PgConnection,
    make: impl FnOnce(&mut PgConnection) -> QueryResult<()>,
) -> QueryResult<()> {
    conn.transaction(|conn| {
        conn.batch_execute(&format!("SELECT pg_advisory_xact_lock(hashtext('{NAMESPACE}'))"))?;
        make(conn)
    })
}

/// By a query like any other: the server's own look-up of names keeps what it knew before the wait for a lock.
fn has_table(conn: &mut PgConnection, name: &str) -> QueryResult<bool> {
    let question = format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON relnamespace = \
         pg_namespace.oid WHERE nspname = '{NAMESPACE}' AND relname = '{name}') AS found"
    );
    Ok(diesel::sql_query(question).get_result::<Found>(conn)?.found)
}

fn another_form(found: i64, place: &str) -> ControlError {
    ControlError::CannotOpen {
        path: place.to_owned(),
        reason: format!("its form is {found}, this program knows {VERSION}"),
    }
}
