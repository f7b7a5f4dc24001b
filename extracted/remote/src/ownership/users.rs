//! The users port of one side, with its fence minded.
//!
//! Invariant: a write that met a closed fence changed nothing, so it is tried again as soon as this side owns, and
//! only then.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use contracts::users::{Ensured, User, UserDetails, Users, UsersError};
use contracts::{CallContext, Page, UserId};

use super::{Ownership, Standing};

/// How long a write waits for a switch to end: longer than a switch may hold writes.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A users port that waits out a switch of ownership and reopens a fence left shut by one that died.
pub struct OwnedUsers {
    inner: Arc<dyn Users>,
    ownership: Arc<Ownership>,
}

impl OwnedUsers {
    /// Wraps this side's port.
    pub fn new(inner: Arc<dyn Users>, ownership: Arc<Ownership>) -> Self {
        Self { inner, ownership }
    }

    async fn write<T, F>(&self, ctx: &CallContext, attempt: impl Fn() -> F) -> Result<T, UsersError>
    where
        F: Future<Output = Result<T, UsersError>>,
    {
        let until = Instant::now() + PATIENCE.min(ctx.remaining());
        loop {
            match attempt().await {
                Err(UsersError::NotOwner) => {}
                decided => return decided,
            }
            if Instant::now() >= until || self.ownership.heal(until).await != Standing::Ours {
                return Err(UsersError::NotOwner);
            }
        }
    }
}

#[async_trait]
impl Users for OwnedUsers {
    async fn create(&self, ctx: &CallContext, details: UserDetails) -> Result<User, UsersError> {
        self.write(ctx, || self.inner.create(ctx, details.clone())).await
    }

    async fn get(&self, ctx: &CallContext, id: UserId) -> Result<User, UsersError> {
        self.inner.get(ctx, id).await
    }

    async fn update(
        &self,
        ctx: &CallContext,
        id: UserId,
        details: UserDetails,
        expected: Option<i64>,
    ) -> Result<User, UsersError> {
        self.write(ctx, || self.inner.update(ctx, id, details.clone(), expected)).await
    }

    async fn delete(&self, ctx: &CallContext, id: UserId, expected: Option<i64>) -> Result<i64, UsersError> {
        self.write(ctx, || self.inner.delete(ctx, id, expected)).await
    }

    async fn list(
        &self,
        ctx: &CallContext,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Page<User>, UsersError> {
        self.inner.list(ctx, after, limit).await
    }

    async fn ensure(
        &self,
        ctx: &CallContext,
        batch: Vec<UserDetails>,
    ) -> Result<Vec<Ensured<UserId>>, UsersError> {
        self.write(ctx, || self.inner.ensure(ctx, batch.clone())).await
    }
}
