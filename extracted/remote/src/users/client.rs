//! The calling end of the users wire.
//!
//! Invariant: a write without a key is sent a second time only if the first cannot have arrived; whatever stays unknown
//! is reported as `maybe_done`.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use contracts::users::{CONTEXT, Ensured, User, UserDetails, Users, UsersError};
use contracts::{CallContext, Page, Unavailable, UserId};
use platform::settings::Secret;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ById, Create, Delete, Ensure, List, Update};
use crate::breaker::Breaker;
use crate::peer::{Answer, Peer, PeerError, Silence};

/// Times a call is sent at most.
const ATTEMPTS: u32 = 2;

/// How to reach the users context in another process.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Base URL: `http://127.0.0.1:3001`.
    pub url: String,
    /// The token that the process there demands.
    pub token: Secret,
    /// How long one attempt may take. Too short and a busy service looks dead; too long and callers wait for a dead one.
    pub timeout: Duration,
}

/// The users context in another process.
#[derive(Debug)]
pub struct Client {
    peer: Peer,
    timeout: Duration,
    breaker: Breaker,
}

/// When a call may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Whenever no answer came.
    Always,
    /// Only if it cannot have arrived.
    Unsent,
}

impl Client {
    /// A client; nothing is sent yet.
    pub fn new(settings: &ClientSettings) -> Result<Self, PeerError> {
        let peer = Peer::new(&settings.url, &settings.token)?;
        Ok(Self { peer, timeout: settings.timeout, breaker: Breaker::default() })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        ctx: &CallContext,
        method: &str,
        body: &(impl Serialize + Sync),
        repeat: Repeat,
        timeout: Duration,
    ) -> Result<T, UsersError> {
        let mut attempt = 1;
        loop {
            let timeout = timeout.min(ctx.remaining());
            if timeout.is_zero() {
                return Err(unavailable("the deadline has passed", attempt > 1 && repeat == Repeat::Always));
            }
            if !self.breaker.admits(Instant::now()) {
                return Err(unavailable(
                    "it failed several times in a row and is left alone for a moment",
                    false,
                ));
            }
            let path = ["internal", "v1", "users", method];
            let outcome = self.peer.send(Method::POST, &path, body, timeout, Some(ctx)).await;
            self.breaker.note(Instant::now(), outcome.is_err());
            let Silence { reason, maybe_done } = match outcome {
                Ok(answer) => return read(&answer),
                Err(silence) => silence,
            };
            if attempt == ATTEMPTS || (maybe_done && repeat == Repeat::Unsent) {
                return Err(unavailable(reason, maybe_done));
            }
            attempt += 1;
        }
    }
}

fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, UsersError> {
    let unreadable = |error| unavailable(format!("its answer is not understood: {error}"), true);
    if answer.status.is_success() {
        return serde_json::from_slice(&answer.body).map_err(unreadable);
    }
    match serde_json::from_slice::<UsersError>(&answer.body) {
        Ok(error) => Err(error),
        Err(_) => Err(unavailable(format!("it answered {}", answer.status), answer.status.is_server_error())),
    }
}

fn unavailable(reason: impl Into<String>, maybe_done: bool) -> UsersError {
    Unavailable { context: CONTEXT.to_owned(), reason: reason.into(), maybe_done }.into()
}

#[async_trait]
impl Users for Client {
    async fn create(&self, ctx: &CallContext, details: UserDetails) -> Result<User, UsersError> {
        // Under a key a second create is the first one again.
        let repeat = if ctx.idempotency.is_some() { Repeat::Always } else { Repeat::Unsent };
        let create = Create { details, idempotency: ctx.idempotency.clone() };
        self.call(ctx, "create", &create, repeat, self.timeout).await
    }

    async fn get(&self, ctx: &CallContext, id: UserId) -> Result<User, UsersError> {
        self.call(ctx, "get", &ById { id }, Repeat::Always, self.timeout).await
    }

    async fn update(
        &self,
        ctx: &CallContext,
        id: UserId,
        details: UserDetails,
        expected: Option<i64>,
    ) -> Result<User, UsersError> {
        // Not repeated although it is a whole replace: between the two attempts another client may have written, and
        // where a version is expected, the first attempt has taken it away.
        self.call(ctx, "update", &Update { id, details, expected }, Repeat::Unsent, self.timeout).await
    }

    async fn delete(&self, ctx: &CallContext, id: UserId, expected: Option<i64>) -> Result<i64, UsersError> {
        self.call(ctx, "delete", &Delete { id, expected }, Repeat::Unsent, self.timeout).await
    }

    async fn list(
        &self,
        ctx: &CallContext,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Page<User>, UsersError> {
        self.call(ctx, "list", &List { after, limit }, Repeat::Always, self.timeout).await
    }

    async fn ensure(
        &self,
        ctx: &CallContext,
        batch: Vec<UserDetails>,
    ) -> Result<Vec<Ensured<UserId>>, UsersError> {
        // A batch takes as long as it takes: the caller's deadline alone bounds it.
        self.call(ctx, "ensure", &Ensure { batch }, Repeat::Always, ctx.remaining()).await
    }
}
