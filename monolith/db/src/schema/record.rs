//! The table `banyan_schema`: which steps were applied, in which form, and when.
//!
//! Invariant: written only in the transaction of the step it speaks of.

use contracts::Timestamp;
use diesel::connection::SimpleConnection;
use diesel::{ExpressionMethods, QueryDsl, QueryResult, RunQueryDsl, SqliteConnection};

use super::{Migration, SchemaSource};

diesel::table! {
    banyan_schema (context, version) {
        context -> Text,
        version -> Integer,
        name -> Text,
        checksum -> Text,
        applied_at_ms -> BigInt,
    }
}

/// Name of the table itself.
pub(super) const TABLE: &str = "banyan_schema";

const CREATE: &str = "CREATE TABLE IF NOT EXISTS banyan_schema (
    context       TEXT NOT NULL,
    version       INTEGER NOT NULL,
    name          TEXT NOT NULL,
    checksum      TEXT NOT NULL,
    applied_at_ms INTEGER NOT NULL,
    PRIMARY KEY (context, version)
) STRICT, WITHOUT ROWID";

/// One applied step.
pub(super) struct Record {
    pub(super) context: String,
    pub(super) version: i32,
    pub(super) name: String,
    pub(super) checksum: String,
    pub(super) applied_at: Timestamp,
}

/// Every applied step of the database.
pub(super) struct Records(pub(super) Vec<Record>);

impl Records {
    pub(super) fn of<'a>(&'a self, context: &'a str) -> impl Iterator<Item = &'a Record> {
        self.0.iter().filter(move |record| record.context == context)
    }

    pub(super) fn applied_at(&self, source: &SchemaSource, step: &Migration) -> Option<Timestamp> {
        self.of(source.context).find(|record| record.version == step.version).map(|record| record.applied_at)
    }
}

pub(super) fn load(conn: &mut SqliteConnection) -> QueryResult<Records> {
    let rows: Vec<(String, i32, String, String, i64)> =
        banyan_schema::table.order((banyan_schema::context, banyan_schema::version)).load(conn)?;
    let records = rows.into_iter().map(|(context, version, name, checksum, at)| Record {
        context,
        version,
        name,
        checksum,
        applied_at: Timestamp::from_millis(at),
    });
    Ok(Records(records.collect()))
}

pub(super) fn add(
    conn: &mut SqliteConnection,
    context: &str,
    step: &Migration,
    now: Timestamp,
) -> QueryResult<()> {
    conn.batch_execute(CREATE)?;
    diesel::insert_into(banyan_schema::table)
        .values((
            banyan_schema::context.eq(context),
            banyan_schema::version.eq(step.version),
            banyan_schema::name.eq(step.name),
            banyan_schema::checksum.eq(checksum(step)),
            banyan_schema::applied_at_ms.eq(now.as_millis()),
        ))
        .execute(conn)?;
    Ok(())
}

pub(super) fn remove(conn: &mut SqliteConnection, context: &str, step: &Migration) -> QueryResult<()> {
    diesel::delete(banyan_schema::table.find((context, step.version))).execute(conn)?;
    Ok(())
}

/// Tells an edited step from the one that was applied. No defence against malice, hence no cryptographic hash;
/// `down.sql` is left out, since mending it harms nobody.
pub(super) fn checksum(step: &Migration) -> String {
    format!("{:016x}", twox_hash::XxHash3_64::oneshot(step.up.as_bytes()))
}
