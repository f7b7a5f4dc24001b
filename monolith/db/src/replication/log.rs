//! The intents and the fence of one context, for the relay and for the keeper of ownership.
//!
//! Invariant: images leave the log in order of version and only once they are delivered; the fence moves only from
//! the token that its mover has seen.

use async_trait::async_trait;
use contracts::replication::{Backlog, Fence, FenceState, Image, IntentLog};
use contracts::{Clock, SystemClock, Unavailable};
use diesel::dsl::count_star;
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, RunQueryDsl};

use super::tables::{self, banyan_contexts, banyan_intents};
use crate::{Conn, Db, DbError};

/// One context's part of the dual-write tables.
#[derive(Clone)]
pub struct ContextLog {
    db: Db,
    context: &'static str,
}

impl ContextLog {
    /// The log and the fence of `context` in `db`.
    pub fn new(db: Db, context: &'static str) -> Self {
        Self { db, context }
    }

    /// Moves the fence if nobody has moved it since `seen`.
    async fn move_fence(&self, to: &'static str, seen: i64, token: i64) -> Result<bool, Unavailable> {
        let context = self.context;
        let moved = self.db.write(move |conn| {
            let row = banyan_contexts::table.find(context).filter(banyan_contexts::fence_token.eq(seen));
            let moved = diesel::update(row)
                .set((banyan_contexts::fence.eq(to), banyan_contexts::fence_token.eq(token)))
                .execute(conn)?;
            Ok(moved == 1)
        });
        moved.await.map_err(|error: DbError| error.unavailable(context))
    }
}

#[async_trait]
impl IntentLog for ContextLog {
    async fn pending(&self, limit: u32) -> Result<Vec<Image>, Unavailable> {
        let context = self.context;
        let images = self.db.read(move |conn| pending(conn, context, limit));
        images.await.map_err(|error| error.unavailable(context))
    }

    async fn delivered(&self, up_to: i64) -> Result<(), Unavailable> {
        let context = self.context;
        let deleted = self.db.write(move |conn| {
            let passed = banyan_intents::table
                .filter(banyan_intents::context.eq(context))
                .filter(banyan_intents::version.le(up_to));
            diesel::delete(passed).execute(conn)?;
            Ok(())
        });
        deleted.await.map_err(|error: DbError| error.unavailable(context))
    }

    async fn backlog(&self) -> Result<Backlog, Unavailable> {
        let context = self.context;
        let backlog = self.db.read(move |conn| backlog(conn, context));
        backlog.await.map_err(|error| error.unavailable(context))
    }
}

#[async_trait]
impl Fence for ContextLog {
    async fn state(&self) -> Result<FenceState, Unavailable> {
        let context = self.context;
        let state = self.db.read(move |conn| super::fence(conn, context));
        let (state, token) = state.await.map_err(|error| error.unavailable(context))?;
        Ok(FenceState { closed: state != tables::OPEN, token })
    }

    async fn open(&self, seen: i64, token: i64) -> Result<bool, Unavailable> {
        self.move_fence(tables::OPEN, seen, token).await
    }

    async fn close(&self, seen: i64, token: i64) -> Result<bool, Unavailable> {
        self.move_fence(tables::CLOSED, seen, token).await
    }
}

fn pending(conn: &mut Conn, context: &str, limit: u32) -> Result<Vec<Image>, DbError> {
    let rows: Vec<(i64, String, Option<String>)> = banyan_intents::table
        .filter(banyan_intents::context.eq(context))
        .order(banyan_intents::version)
        .limit(i64::from(limit))
        .select((banyan_intents::version, banyan_intents::id, banyan_intents::state))
        .load(conn)?;
    let image = |(version, id, state): (i64, String, Option<String>)| {
        let state = state.map(|text| serde_json::from_str(&text)).transpose();
        let state = state.map_err(|_| DbError::Corrupt {
            what: format!("intent {version} of {context} with a state that is not JSON"),
        })?;
        Ok(Image { version, id, state })
    };
    rows.into_iter().map(image).collect()
}

fn backlog(conn: &mut Conn, context: &str) -> Result<Backlog, DbError> {
    let of_context = banyan_intents::table.filter(banyan_intents::context.eq(context));
    let pending: i64 = of_context.select(count_star()).get_result(conn)?;
    let oldest: Option<i64> = of_context
        .order(banyan_intents::version)
        .select(banyan_intents::created_at_ms)
        .first(conn)
        .optional()?;
    let age = oldest.map_or(0, |at| SystemClock.now().as_millis().saturating_sub(at));
    Ok(Backlog {
        pending: u64::try_from(pending).unwrap_or_default(),
        oldest_ms: u64::try_from(age).unwrap_or_default(),
    })
}
