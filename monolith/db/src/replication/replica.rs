//! The side that is not the owner: takes images in whatever order delivery and backfill bring them.
//!
//! Invariant: an id's version only grows, and a unique value is never taken from a holder that is newer. The rules
//! stand here once; a context says only how its tables are read and written.

use contracts::replication::{Applied, Image, ReplicaError};
use diesel::result::Error;
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl};
use serde_json::Value;

use super::tables::{self, banyan_contexts, banyan_tombstones};
use crate::{Conn, Db, DbError};

/// Another id that holds a unique value of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: i64,
}

/// How images of one context are stored in one side's tables.
pub trait ReplicaTable: Send + 'static {
    /// The context's key.
    type Key: Copy + Send + 'static;
    /// The context's state, as its port knows it.
    type State: Send + 'static;

    /// The context.
    const CONTEXT: &'static str;

    /// The key that an image's id names, or what is wrong with the id.
    fn key(id: &str) -> Result<Self::Key, String>;

    /// The state that an image carries, or what is wrong with it: it must agree with the image's key and version.
    fn state(key: Self::Key, version: i64, value: Value) -> Result<Self::State, String>;

    /// The version of the row with this key.
    fn version(conn: &mut Conn, key: Self::Key) -> QueryResult<Option<i64>>;

    /// Another row that holds a unique value of the state.
    fn rival(conn: &mut Conn, key: Self::Key, state: &Self::State) -> QueryResult<Option<Rival>>;

    /// Writes the whole state under this key, whether or not there is a row.
    fn put(conn: &mut Conn, key: Self::Key, state: &Self::State) -> QueryResult<()>;

    /// Removes the row with this key, if there is one.
    fn remove(conn: &mut Conn, key: Self::Key) -> QueryResult<()>;
}

/// Applies one image in one transaction. Idempotent.
pub async fn apply<T: ReplicaTable>(db: &Db, image: Image) -> Result<Applied, ReplicaError> {
    let Image { version, id, state } = image;
    let malformed = |reason| ReplicaError::Malformed { version, id: id.clone(), reason };
    if version < 1 {
        return Err(malformed("a version is 1 or more".to_owned()));
    }
    let key = T::key(&id).map_err(malformed)?;
    let state = state.map(|value| T::state(key, version, value)).transpose().map_err(malformed)?;
    let stored = db.write(move |conn| store::<T>(conn, key, &id, version, state.as_ref()));
    stored.await.map_err(|refusal| match refusal {
        Refusal::Replica(error) => error,
        Refusal::Database(error) => error.unavailable(T::CONTEXT).into(),
    })
}

fn store<T: ReplicaTable>(
    conn: &mut Conn,
    key: T::Key,
    id: &str,
    version: i64,
    state: Option<&T::State>,
) -> Result<Applied, Refusal> {
    // Held, so that no two images are weighed against the same row at once.
    let (fence, _) = super::held_fence(conn, T::CONTEXT)?;
    if fence != tables::CLOSED {
        return Err(Refusal::Replica(ReplicaError::Owner { context: T::CONTEXT.to_owned() }));
    }
    let buried = tombstone(conn, T::CONTEXT, id)?;
    if T::version(conn, key)?.max(buried) >= Some(version) {
        return Ok(Applied::Stale);
    }
    match state {
        None => {
            T::remove(conn, key)?;
            super::bury(conn, T::CONTEXT, id, version)?;
        }
        Some(state) => {
            if let Some(rival) = T::rival(conn, key, state)? {
                return yield_to(rival, id, version);
            }
            T::put(conn, key, state)?;
            if buried.is_some() {
                diesel::delete(banyan_tombstones::table.find((T::CONTEXT, id))).execute(conn)?;
            }
        }
    }
    raise_counter(conn, T::CONTEXT, version)?;
    Ok(Applied::Stored)
}

/// A newer rival proves that the owner gave the value away after this image, so a later image of this id exists.
/// An older rival still waits for the image that takes the value from it.
fn yield_to(rival: Rival, id: &str, version: i64) -> Result<Applied, Refusal> {
    if rival.version > version {
        return Ok(Applied::Superseded);
    }
    Err(Refusal::Replica(ReplicaError::Conflict { version, id: id.to_owned(), holder: rival.id }))
}

fn tombstone(conn: &mut Conn, context: &str, id: &str) -> QueryResult<Option<i64>> {
    banyan_tombstones::table
        .find((context, id))
        .select(banyan_tombstones::version)
        .get_result(conn)
        .optional()
}

/// Should this side become the owner, its next version must be above every version it was ever told.
fn raise_counter(conn: &mut Conn, context: &str, version: i64) -> QueryResult<()> {
    let behind = banyan_contexts::table.find(context).filter(banyan_contexts::version.lt(version));
    diesel::update(behind).set(banyan_contexts::version.eq(version)).execute(conn)?;
    Ok(())
}

enum Refusal {
    Replica(ReplicaError),
    Database(DbError),
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Database(DbError::Statement(error))
    }
}
