//! The users port for callers in this process that follow the flag, together with the facade.
//!
//! Invariant: only a canary read falls back, once, to the embedded context: as soon as the service owns the users,
//! the data here is behind and a failing service is a failure. Until then the data there may be behind, so that the
//! service does not know a user is no answer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use contracts::users::{Ensured, User, UserDetails, Users, UsersError};
use contracts::{CallContext, Page, UserId};
use control::Side;

use crate::flags::{Flags, Permit};

/// How long a write waits while writes are held.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A users port that goes to the embedded context or to the service, as the flag says.
pub struct FlagUsers {
    embedded: Arc<dyn Users>,
    remote: Arc<dyn Users>,
    flags: Flags,
}

impl FlagUsers {
    /// Routes between the two by `flags`.
    pub fn new(embedded: Arc<dyn Users>, remote: Arc<dyn Users>, flags: Flags) -> Self {
        Self { embedded, remote, flags }
    }

    fn at(&self, side: Side) -> &dyn Users {
        match side {
            Side::Monolith => self.embedded.as_ref(),
            Side::Service => self.remote.as_ref(),
        }
    }

    async fn begin(&self, ctx: &CallContext) -> Result<Permit, UsersError> {
        self.flags.begin_write(PATIENCE.min(ctx.remaining())).await.ok_or(UsersError::NotOwner)
    }
}

#[async_trait]
impl Users for FlagUsers {
    async fn create(&self, ctx: &CallContext, details: UserDetails) -> Result<User, UsersError> {
        let permit = self.begin(ctx).await?;
        self.at(permit.side).create(ctx, details).await
    }

    async fn get(&self, ctx: &CallContext, id: UserId) -> Result<User, UsersError> {
        let flag = self.flags.current();
        let side = flag.side_of_read(id.to_string().as_bytes());
        let answer = self.at(side).get(ctx, id).await;
        match answer {
            Err(UsersError::Unavailable(cause)) if side == Side::Service && flag.may_fall_back() => {
                tracing::warn!("a canary read of user {id} is answered here instead: {cause}");
                self.embedded.get(ctx, id).await
            }
            // The service may not have a new user yet; whether there is one is for the owner to say.
            Err(UsersError::NotFound { .. }) if side == Side::Service && flag.may_fall_back() => {
                self.embedded.get(ctx, id).await
            }
            answer => answer,
        }
    }

    async fn update(
        &self,
        ctx: &CallContext,
        id: UserId,
        details: UserDetails,
        expected: Option<i64>,
    ) -> Result<User, UsersError> {
        let permit = self.begin(ctx).await?;
        self.at(permit.side).update(ctx, id, details, expected).await
    }

    async fn delete(&self, ctx: &CallContext, id: UserId, expected: Option<i64>) -> Result<i64, UsersError> {
        let permit = self.begin(ctx).await?;
        self.at(permit.side).delete(ctx, id, expected).await
    }

    /// A listing has no key, so it comes from the owner.
    async fn list(
        &self,
        ctx: &CallContext,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Page<User>, UsersError> {
        self.at(self.flags.current().side_of_write()).list(ctx, after, limit).await
    }

    async fn ensure(
        &self,
        ctx: &CallContext,
        batch: Vec<UserDetails>,
    ) -> Result<Vec<Ensured<UserId>>, UsersError> {
        let permit = self.begin(ctx).await?;
        self.at(permit.side).ensure(ctx, batch).await
    }
}

#[cfg(test)]
mod tests;
