//! Dual-write as a decorator: a write is answered once the other side has it, too, or a moment later.
//!
//! Invariant: the client's answer is the store's answer; the other side's trouble costs it at most the deadline.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use contracts::users::{Ensured, User, UserDetails, Users, UsersError};
use contracts::{CallContext, Page, UserId};
use tokio::time::Instant;

use crate::relay::RelayHandle;

/// A users port whose writes wait for the relay.
pub struct DualWriteUsers {
    inner: Arc<dyn Users>,
    relay: RelayHandle,
    deadline: Duration,
}

impl DualWriteUsers {
    /// Wraps the store. `deadline` is how long a write waits at most after it was committed.
    pub fn new(inner: Arc<dyn Users>, relay: RelayHandle, deadline: Duration) -> Self {
        Self { inner, relay, deadline }
    }

    async fn wait(&self, ctx: &CallContext, version: i64) {
        let deadline = Instant::now() + self.deadline.min(ctx.remaining());
        let delivery = self.relay.wait_passed(version, deadline).await;
        tracing::debug!(version, ?delivery, "version {version} is {delivery:?} at the other side");
    }
}

#[async_trait]
impl Users for DualWriteUsers {
    async fn create(&self, ctx: &CallContext, details: UserDetails) -> Result<User, UsersError> {
        let user = self.inner.create(ctx, details).await?;
        self.wait(ctx, user.version).await;
        Ok(user)
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
        let user = self.inner.update(ctx, id, details, expected).await?;
        self.wait(ctx, user.version).await;
        Ok(user)
    }

    async fn delete(&self, ctx: &CallContext, id: UserId, expected: Option<i64>) -> Result<i64, UsersError> {
        let version = self.inner.delete(ctx, id, expected).await?;
        self.wait(ctx, version).await;
        Ok(version)
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
        let ensured = self.inner.ensure(ctx, batch).await?;
        // A batch is a bulk load: it would outlast any deadline, so it leaves its images to the relay.
        self.relay.poke();
        Ok(ensured)
    }
}
