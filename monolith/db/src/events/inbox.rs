//! The inbox: what a consumer has taken.
//!
//! Invariant: a row is written in the transaction of the effect, so a repeat finds both or neither. Rows outlive every
//! repeat that the relay may still send.

use contracts::Timestamp;
use contracts::events::Envelope;
use diesel::sql_types::BigInt;
use diesel::{ExpressionMethods, QueryResult, RunQueryDsl, sql_query};

use super::tables::banyan_inbox;
use crate::{Conn, Db, DbError, on_each};

/// Whether this consumer has not taken the event yet; from now on it has. Belongs into the transaction of the effect, as its
/// first statement: a second one with the same event waits here for the end of the first.
pub fn first_time(
    conn: &mut Conn,
    consumer: &'static str,
    event: &Envelope,
    now: Timestamp,
) -> QueryResult<bool> {
    let row = (
        banyan_inbox::consumer.eq(consumer),
        banyan_inbox::event_id.eq(&event.id),
        banyan_inbox::handled_at_ms.eq(now.as_millis()),
    );
    let inserted = on_each!(conn, |conn| {
        diesel::insert_into(banyan_inbox::table).values(row).on_conflict_do_nothing().execute(conn)?
    });
    Ok(inserted == 1)
}

/// Forgets what was taken before that instant, and returns how much that was. Keep at least as long as an event may wait
/// for its last attempt.
pub async fn purge_inbox(db: &Db, before: Timestamp) -> Result<u64, DbError> {
    crate::purge::in_batches(db, move |conn| {
        sql_query(
            "DELETE FROM banyan_inbox WHERE (consumer, event_id) IN
             (SELECT consumer, event_id FROM banyan_inbox WHERE handled_at_ms < $1 ORDER BY handled_at_ms LIMIT $2)",
        )
        .bind::<BigInt, _>(before.as_millis())
        .bind::<BigInt, _>(crate::purge::BATCH)
        .execute(conn)
    })
    .await
}
