//! The table `banyan_schema`: which steps were applied, in which form, and when; in PostgreSQL also what was there
//! afterwards, since nothing can be tried out there beside the database itself.
//!
//! Invariant: written only in the transaction of the step it speaks of.

use std::collections::BTreeSet;

use contracts::Timestamp;
use diesel::connection::SimpleConnection;
use diesel::{ExpressionMethods, QueryDsl, QueryResult, RunQueryDsl};

use super::objects::Object;
use super::{Migration, SchemaSource};
use crate::{Backend, Conn};

diesel::table! {
    banyan_schema (context, version) {
        context -> Text,
        version -> Integer,
        name -> Text,
        checksum -> Text,
        applied_at_ms -> BigInt,
    }
}

diesel::table! {
    /// Only in PostgreSQL.
    #[sql_name = "banyan_schema"]
    banyan_objects (context, version) {
        context -> Text,
        version -> Integer,
        objects -> Text,
    }
}

/// Name of the table itself.
pub(super) const TABLE: &str = "banyan_schema";
/// The PostgreSQL schema of all tables that begin with `banyan_`.
pub(super) const SCHEMA: &str = "banyan";

const CREATE_SQLITE: &str = "CREATE TABLE IF NOT EXISTS banyan_schema (
    context       TEXT NOT NULL,
    version       INTEGER NOT NULL,
    name          TEXT NOT NULL,
    checksum      TEXT NOT NULL,
    applied_at_ms INTEGER NOT NULL,
    PRIMARY KEY (context, version)
) STRICT, WITHOUT ROWID";

const CREATE_POSTGRES: &str = "CREATE SCHEMA IF NOT EXISTS banyan;
CREATE TABLE IF NOT EXISTS banyan.banyan_schema (
    context       TEXT NOT NULL,
    version       INTEGER NOT NULL,
    name          TEXT NOT NULL,
    checksum      TEXT NOT NULL,
    applied_at_ms BIGINT NOT NULL,
    objects       TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (context, version)
)";

/// One applied step.
pub(super) struct Record {
    pub(super) context: String,
    pub(super) version: i32,
    pub(super) name: String,
    pub(super) checksum: String,
    pub(super) applied_at: Timestamp,
    /// What the context's steps up to this one had made; empty in SQLite.
    pub(super) objects: BTreeSet<Object>,
}

/// Every applied step of the database.
pub(super) struct Records(pub(super) Vec<Record>);

impl Records {
    pub(super) fn of<'a>(&'a self, context: &'a str) -> impl Iterator<Item = &'a Record> {
        self.0.iter().filter(move |record| record.context == context)
    }

    /// What the applied steps of a source made.
    pub(super) fn objects(&self, source: &SchemaSource) -> BTreeSet<Object> {
        self.of(source.context).last().map(|record| record.objects.clone()).unwrap_or_default()
    }

    pub(super) fn applied_at(&self, source: &SchemaSource, step: &Migration) -> Option<Timestamp> {
        self.of(source.context).find(|record| record.version == step.version).map(|record| record.applied_at)
    }
}

pub(super) fn load(conn: &mut Conn) -> QueryResult<Records> {
    let rows: Vec<(String, i32, String, String, i64)> =
        banyan_schema::table.order((banyan_schema::context, banyan_schema::version)).load(conn)?;
    let objects: Vec<String> = match conn {
        Conn::Sqlite(_) => Vec::new(),
        Conn::Postgres(conn) => banyan_objects::table
            .order((banyan_objects::context, banyan_objects::version))
            .select(banyan_objects::objects)
            .load(conn)?,
    };
    let objects = objects.into_iter().map(Some).chain(std::iter::repeat(None));
    let records =
        rows.into_iter().zip(objects).map(|((context, version, name, checksum, at), objects)| Record {
            context,
            version,
            name,
            checksum,
            applied_at: Timestamp::from_millis(at),
            objects: objects.unwrap_or_default().lines().filter_map(Object::parse).collect(),
        });
    Ok(Records(records.collect()))
}

pub(super) fn add(
    conn: &mut Conn,
    context: &str,
    step: &Migration,
    now: Timestamp,
    objects: &BTreeSet<Object>,
) -> QueryResult<()> {
    let (backend, create) = match conn {
        Conn::Sqlite(_) => (Backend::Sqlite, CREATE_SQLITE),
        Conn::Postgres(_) => (Backend::Postgres, CREATE_POSTGRES),
    };
    conn.batch_execute(create)?;
    diesel::insert_into(banyan_schema::table)
        .values((
            banyan_schema::context.eq(context),
            banyan_schema::version.eq(step.version),
            banyan_schema::name.eq(step.name),
            banyan_schema::checksum.eq(checksum(step, backend)),
            banyan_schema::applied_at_ms.eq(now.as_millis()),
        ))
        .execute(conn)?;
    let Conn::Postgres(conn) = conn else { return Ok(()) };
    let lines: Vec<String> = objects.iter().map(ToString::to_string).collect();
    diesel::update(banyan_objects::table.find((context, step.version)))
        .set(banyan_objects::objects.eq(lines.join("\n")))
        .execute(conn)?;
    Ok(())
}

pub(super) fn remove(conn: &mut Conn, context: &str, step: &Migration) -> QueryResult<()> {
    diesel::delete(banyan_schema::table.find((context, step.version))).execute(conn)?;
    Ok(())
}

/// Tells an edited step from the one that was applied. No defence against malice, hence no cryptographic hash; the way
/// down is left out, since mending it harms nobody.
pub(super) fn checksum(step: &Migration, backend: Backend) -> String {
    format!("{:016x}", twox_hash::XxHash3_64::oneshot(step.script(backend).up.as_bytes()))
}
