//! The users port and the replica's sink, over the store.
//!
//! Invariant: one transaction per call, and nothing but the database inside it.

use std::sync::Arc;

use async_trait::async_trait;
use contracts::replication::{Applied, Image, ReplicaError, ReplicaSink};
use contracts::users::{CONTEXT, Ensured, User, UserDetails, Users, UsersError};
use contracts::{CallContext, Clock, Page, UserId};
use db::{Db, idempotency};

use crate::store::{self, StoreError, UsersTable};

/// Under which the keys of `create` are kept.
const CREATE: &str = "users.create";

/// The users context on a database that holds [`SCHEMA`](crate::SCHEMA) and the tables of replication and idempotency.
#[derive(Clone)]
pub struct UsersService {
    db: Db,
    clock: Arc<dyn Clock>,
}

impl UsersService {
    /// The context on this database.
    pub fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock }
    }
}

#[async_trait]
impl Users for UsersService {
    async fn create(&self, ctx: &CallContext, details: UserDetails) -> Result<User, UsersError> {
        let now = self.clock.now();
        let key = ctx.idempotency.clone();
        let created = self.db.write(move |conn| {
            idempotency::once(conn, CREATE, key.as_ref(), now, |conn| store::create(conn, details, now))
        });
        Ok(created.await?)
    }

    async fn get(&self, _: &CallContext, id: UserId) -> Result<User, UsersError> {
        Ok(self.db.read_one(move |conn| store::get(conn, id)).await?)
    }

    async fn update(
        &self,
        _: &CallContext,
        id: UserId,
        details: UserDetails,
        expected: Option<i64>,
    ) -> Result<User, UsersError> {
        let now = self.clock.now();
        Ok(self.db.write(move |conn| store::update(conn, id, details, expected, now)).await?)
    }

    async fn delete(&self, _: &CallContext, id: UserId, expected: Option<i64>) -> Result<i64, UsersError> {
        Ok(self.db.write(move |conn| store::delete(conn, id, expected)).await?)
    }

    async fn list(
        &self,
        _: &CallContext,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Page<User>, UsersError> {
        Ok(self.db.read(move |conn| store::list(conn, after, limit)).await?)
    }

    async fn ensure(
        &self,
        _: &CallContext,
        batch: Vec<UserDetails>,
    ) -> Result<Vec<Ensured<UserId>>, UsersError> {
        let now = self.clock.now();
        Ok(self.db.write(move |conn| store::ensure(conn, batch, now)).await?)
    }
}

#[async_trait]
impl ReplicaSink for UsersService {
    async fn apply(&self, image: Image) -> Result<Applied, ReplicaError> {
        db::replication::apply::<UsersTable>(&self.db, image).await
    }
}

impl From<StoreError> for UsersError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(id) => Self::NotFound { id },
            StoreError::EmailTaken(email) => Self::EmailTaken { email },
            StoreError::Changed(id) => Self::Changed { id },
            StoreError::KeyReused(error) => Self::KeyReused(error),
            StoreError::Fenced => Self::NotOwner,
            StoreError::Database(error) => error.unavailable(CONTEXT).into(),
        }
    }
}

#[cfg(test)]
mod tests;
