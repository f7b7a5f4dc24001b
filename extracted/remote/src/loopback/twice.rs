//! The users suite over the wire, before the context as the monolith has it, with every call that may be sent again
//! carried out twice: as when the first answer was lost.
//!
//! Invariant: no caller can tell.

use ::users::{SCHEMA, UsersService};
use contracts::FixedClock;
use contracts::suite::UsersFixture;
use db::testing::{Scratch, scratch};
use db::{Backend, DbError, idempotency, replication};

use super::*;

struct Twice(UsersService);

#[async_trait]
impl Users for Twice {
    async fn create(&self, ctx: &CallContext, details: UserDetails) -> Result<User, UsersError> {
        if ctx.idempotency.is_some() {
            let _ = self.0.create(ctx, details.clone()).await;
        }
        self.0.create(ctx, details).await
    }
    async fn get(&self, ctx: &CallContext, id: UserId) -> Result<User, UsersError> {
        let _ = self.0.get(ctx, id).await;
        self.0.get(ctx, id).await
    }
    async fn update(
        &self,
        ctx: &CallContext,
        id: UserId,
        details: UserDetails,
        expected: Option<i64>,
    ) -> Result<User, UsersError> {
        self.0.update(ctx, id, details, expected).await
    }
    async fn delete(&self, ctx: &CallContext, id: UserId, expected: Option<i64>) -> Result<i64, UsersError> {
        self.0.delete(ctx, id, expected).await
    }
    async fn list(
        &self,
        ctx: &CallContext,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Page<User>, UsersError> {
        let _ = self.0.list(ctx, after, limit).await;
        self.0.list(ctx, after, limit).await
    }
    /// The one call whose second answer differs: nobody is new to it. So the first answer counts here.
    async fn ensure(
        &self,
        ctx: &CallContext,
        batch: Vec<UserDetails>,
    ) -> Result<Vec<Ensured<UserId>>, UsersError> {
        let first = self.0.ensure(ctx, batch.clone()).await?;
        let again = self.0.ensure(ctx, batch).await?;
        let found: Vec<_> = first.iter().map(|ensured| Ensured { added: false, ..*ensured }).collect();
        assert_eq!(again, found);
        Ok(first)
    }
}

struct Loopback {
    client: users::Client,
    _db: Scratch,
}

impl UsersFixture for Loopback {
    fn users(&self) -> &dyn Users {
        &self.client
    }
}

async fn loopback() -> Loopback {
    let db = scratch(Backend::Sqlite, &[replication::SCHEMA, idempotency::SCHEMA, SCHEMA]);
    let open = |conn: &mut db::Conn| Ok::<_, DbError>(replication::ensure_context(conn, "users", true)?);
    db.write(open).await.unwrap();
    let clock = Arc::new(FixedClock(Timestamp::from_millis(1_291_191_960_000)));
    let service = Twice(UsersService::new(db.clone(), clock));
    let users: Arc<dyn Users> = Arc::new(service);
    let url = listen(move |config| users::routes(config, users.clone(), Secret::new("t")));
    Loopback { client: users_client(&url, "t"), _db: db }
}

contracts::users_suite!(loopback);
