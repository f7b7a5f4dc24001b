//! Idempotency keys: a repeated command gets the result of the first one.
//!
//! Invariant: a key is kept with its result in the transaction of the effect; an error rolls both back, so only what
//! succeeded is replayed.

mod tables;

use contracts::{IdempotencyKey, KeyReused, Timestamp};
use diesel::sql_types::BigInt;
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl, sql_query};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::schema::SchemaSource;
use crate::{Conn, Db, DbError, on_each};
use tables::banyan_idempotency;

/// The keys.
pub const SCHEMA: SchemaSource = SchemaSource {
    context: "idempotency",
    migrations: &[crate::migration!("0001_idempotency")],
    tables: &["banyan_idempotency"],
};

/// Carries a command out once per key: does `work`, or returns the result that it had before. Without a key it is `work` and
/// nothing else. `scope` is `<context>.<method>`: a key belongs to one command of one kind. Belongs at the begin of the command's transaction: a second one with the
/// same key waits here for the end of the first.
pub fn once<T, E>(
    conn: &mut Conn,
    scope: &'static str,
    key: Option<&IdempotencyKey>,
    now: Timestamp,
    work: impl FnOnce(&mut Conn) -> Result<T, E>,
) -> Result<T, E>
where
    T: Serialize + DeserializeOwned,
    E: From<KeyReused> + From<DbError> + From<diesel::result::Error>,
{
    let Some(key) = key else { return work(conn) };
    // Asked again if the key is purged between the two statements.
    while !take(conn, scope, key, now)? {
        if let Some(result) = replay::<T, E>(conn, scope, Some(key))? {
            return Ok(result);
        }
    }
    let result = work(conn)?;
    keep(conn, key, &result)?;
    Ok(result)
}

/// The result that the command with this key had before, if any. For commands that ask other contexts before their
/// transaction begins, so that a repeat does not depend on those.
pub fn replay<T, E>(
    conn: &mut Conn,
    scope: &'static str,
    key: Option<&IdempotencyKey>,
) -> Result<Option<T>, E>
where
    T: DeserializeOwned,
    E: From<KeyReused> + From<DbError> + From<diesel::result::Error>,
{
    let Some(key) = key else { return Ok(None) };
    let kept: Option<(String, String, Option<String>)> = banyan_idempotency::table
        .find(key.key())
        .select((banyan_idempotency::scope, banyan_idempotency::fingerprint, banyan_idempotency::result))
        .get_result(conn)
        .optional()?;
    let Some((of_scope, fingerprint, result)) = kept else { return Ok(None) };
    if of_scope != scope || fingerprint != key.fingerprint() {
        return Err(KeyReused { key: key.key().to_owned() }.into());
    }
    let result = serde_json::from_str(result.as_deref().unwrap_or_default()).map_err(|error| {
        DbError::Corrupt { what: format!("a result of {scope} in banyan_idempotency ({error})") }
    })?;
    Ok(Some(result))
}

/// Forgets the keys that came before that instant, and returns how many.
pub async fn purge(db: &Db, before: Timestamp) -> Result<u64, DbError> {
    crate::purge::in_batches(db, move |conn| {
        sql_query(
            "DELETE FROM banyan_idempotency WHERE key IN (SELECT key FROM banyan_idempotency
             WHERE created_at_ms < $1 ORDER BY created_at_ms LIMIT $2)",
        )
        .bind::<BigInt, _>(before.as_millis())
        .bind::<BigInt, _>(crate::purge::BATCH)
        .execute(conn)
    })
    .await
}

/// Whether this transaction is the first with the key.
fn take(conn: &mut Conn, scope: &'static str, key: &IdempotencyKey, now: Timestamp) -> QueryResult<bool> {
    let row = (
        banyan_idempotency::scope.eq(scope),
        banyan_idempotency::key.eq(key.key()),
        banyan_idempotency::fingerprint.eq(key.fingerprint()),
        banyan_idempotency::created_at_ms.eq(now.as_millis()),
    );
    let inserted = on_each!(conn, |conn| {
        diesel::insert_into(banyan_idempotency::table).values(row).on_conflict_do_nothing().execute(conn)?
    });
    Ok(inserted == 1)
}

fn keep<T: Serialize>(conn: &mut Conn, key: &IdempotencyKey, result: &T) -> QueryResult<()> {
    let result = serde_json::to_string(result)
        .map_err(|error| diesel::result::Error::SerializationError(Box::new(error)))?;
    diesel::update(banyan_idempotency::table.find(key.key()))
        .set(banyan_idempotency::result.eq(result))
        .execute(conn)?;
    Ok(())
}

#[cfg(test)]
mod tests;
