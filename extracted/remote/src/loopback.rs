//! Both wires over a real socket: what a port answers must arrive as it was.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};
use async_trait::async_trait;
use contracts::replication::{Applied, Image, ReplicaError, ReplicaSink};
use contracts::users::{Ensured, User, UserDetails, Users, UsersError};
use contracts::{CallContext, IdempotencyKey, KeyReused, Page, Timestamp, Unavailable, UserId};
use platform::settings::Secret;
use serde_json::json;

use crate::{replica, users};

mod twice;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Answers every call with the next of its answers, where it has one.
#[derive(Default)]
struct Fake {
    failure: Mutex<Option<UsersError>>,
    refusal: Mutex<Option<ReplicaError>>,
    seen: Mutex<Vec<CallContext>>,
    expected: Mutex<Vec<Option<i64>>>,
}

impl Fake {
    fn answer<T>(&self, ctx: &CallContext, value: T) -> Result<T, UsersError> {
        self.seen.lock().unwrap().push(ctx.clone());
        match self.failure.lock().unwrap().clone() {
            Some(error) => Err(error),
            None => Ok(value),
        }
    }
}

fn user(id: UserId, details: UserDetails) -> User {
    let at = Timestamp::from_millis(1);
    User { id, details, created_at: at, updated_at: at, version: 9 }
}

fn details() -> UserDetails {
    UserDetails::parse("شيماء O'Neil".into(), "s@example.com".into(), None, Vec::new()).unwrap()
}

fn id(number: i64) -> UserId {
    UserId::try_from(number).unwrap()
}

#[async_trait]
impl Users for Fake {
    async fn create(&self, ctx: &CallContext, details: UserDetails) -> Result<User, UsersError> {
        self.answer(ctx, user(id(1), details))
    }
    async fn get(&self, ctx: &CallContext, id: UserId) -> Result<User, UsersError> {
        self.answer(ctx, user(id, details()))
    }
    async fn update(
        &self,
        ctx: &CallContext,
        id: UserId,
        details: UserDetails,
        expected: Option<i64>,
    ) -> Result<User, UsersError> {
        self.expected.lock().unwrap().push(expected);
        self.answer(ctx, user(id, details))
    }
    async fn delete(&self, ctx: &CallContext, _: UserId, expected: Option<i64>) -> Result<i64, UsersError> {
        self.expected.lock().unwrap().push(expected);
        self.answer(ctx, 12)
    }
    async fn list(&self, ctx: &CallContext, after: Option<UserId>, _: u32) -> Result<Page<User>, UsersError> {
        self.answer(ctx, Page { items: vec![user(after.unwrap(), details())], more: true })
    }
    async fn ensure(
        &self,
        ctx: &CallContext,
        batch: Vec<UserDetails>,
    ) -> Result<Vec<Ensured<UserId>>, UsersError> {
        let ensured = (1..=batch.len()).map(|number| Ensured { id: id(number as i64), added: number == 1 });
        self.answer(ctx, ensured.collect())
    }
}

#[async_trait]
impl ReplicaSink for Fake {
    async fn apply(&self, image: Image) -> Result<Applied, ReplicaError> {
        if let Some(error) = self.refusal.lock().unwrap().clone() {
            return Err(error);
        }
        Ok(if image.state.is_some() { Applied::Stored } else { Applied::Superseded })
    }
}

fn serve(fake: &Arc<Fake>) -> String {
    let (users, sink) = (fake.clone(), fake.clone());
    listen(move |config| {
        users::routes(config, users.clone(), Secret::new("t"));
        replica::routes(config, "users", sink.clone(), Secret::new("t"));
    })
}

fn listen(routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = HttpServer::new(move || App::new().configure(routes.clone()));
    tokio::spawn(server.workers(1).disable_signals().listen(listener).unwrap().run());
    url
}

fn users_client(url: &str, token: &str) -> users::Client {
    let settings = users::ClientSettings { url: url.to_owned(), token: Secret::new(token), timeout: TIMEOUT };
    users::Client::new(&settings).unwrap()
}

fn replica_client(url: &str, token: &str) -> replica::Client {
    replica::Client::new(url, &Secret::new(token), "users", TIMEOUT).unwrap()
}

fn ctx() -> CallContext {
    CallContext::new("request-1", TIMEOUT)
}

#[tokio::test]
async fn every_method_of_the_users_port_crosses_the_wire() {
    let fake = Arc::new(Fake::default());
    let client = users_client(&serve(&fake), "t");
    assert_eq!(client.create(&ctx(), details()).await.unwrap(), user(id(1), details()));
    assert_eq!(client.get(&ctx(), id(7)).await.unwrap(), user(id(7), details()));
    assert_eq!(client.update(&ctx(), id(7), details(), Some(3)).await.unwrap(), user(id(7), details()));
    assert_eq!(client.delete(&ctx(), id(7), None).await.unwrap(), 12);
    let page = client.list(&ctx(), Some(id(5)), 3).await.unwrap();
    assert_eq!((page.items.len(), page.more), (1, true));
    let ensured = client.ensure(&ctx(), vec![details(), details()]).await.unwrap();
    assert_eq!(ensured[1], Ensured { id: id(2), added: false });
    assert_eq!(*fake.expected.lock().unwrap(), [Some(3), None]);
    assert!(fake.seen.lock().unwrap().iter().all(|seen| seen.request_id.0 == "request-1"));
}

#[tokio::test]
async fn trace_and_idempotency_key_cross_the_wire() {
    let fake = Arc::new(Fake::default());
    let client = users_client(&serve(&fake), "t");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736";
    let key = IdempotencyKey::parse("k", "Ann").unwrap();
    let traceparent = Some(format!("{trace}-00f067aa0ba902b7-01"));
    let ctx = CallContext { traceparent, idempotency: Some(key), ..ctx() };
    client.create(&ctx, details()).await.unwrap();
    let seen = fake.seen.lock().unwrap();
    assert!(seen[0].traceparent.as_ref().unwrap().starts_with(trace), "{seen:?}");
    assert_eq!(seen[0].idempotency, ctx.idempotency);
}

#[tokio::test]
async fn errors_of_the_users_port_arrive_as_they_were() {
    let fake = Arc::new(Fake::default());
    let client = users_client(&serve(&fake), "t");
    for error in [
        UsersError::NotFound { id: id(3) },
        UsersError::EmailTaken { email: "s@example.com".into() },
        UsersError::Changed { id: id(3) },
        KeyReused { key: "k".into() }.into(),
        UsersError::NotOwner,
        UsersError::Unavailable(Unavailable {
            context: "users".into(),
            reason: "disk".into(),
            maybe_done: true,
        }),
    ] {
        *fake.failure.lock().unwrap() = Some(error.clone());
        assert_eq!(client.create(&ctx(), details()).await.unwrap_err(), error);
    }
}

#[tokio::test]
async fn outcomes_of_images_arrive_as_they_were() {
    let fake = Arc::new(Fake::default());
    let client = replica_client(&serve(&fake), "t");
    let put = Image { version: 4, id: "7".into(), state: Some(json!({"name": "Ann"})) };
    assert_eq!(client.apply(put.clone()).await.unwrap(), Applied::Stored);
    assert_eq!(client.apply(Image { state: None, ..put.clone() }).await.unwrap(), Applied::Superseded);
    for error in [
        ReplicaError::Conflict { version: 4, id: "7".into(), holder: "8".into() },
        ReplicaError::Owner { context: "users".into() },
        ReplicaError::Malformed { version: 4, id: "7".into(), reason: "no name".into() },
    ] {
        *fake.refusal.lock().unwrap() = Some(error.clone());
        assert_eq!(client.apply(put.clone()).await.unwrap_err(), error);
    }
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_changes_nothing() {
    let fake = Arc::new(Fake::default());
    let url = serve(&fake);
    let refused = users_client(&url, "other").create(&ctx(), details()).await.unwrap_err();
    assert!(matches!(&refused, UsersError::Unavailable(cause) if !cause.maybe_done), "{refused}");
    let image = Image { version: 1, id: "1".into(), state: None };
    let refused = replica_client(&url, "other").apply(image).await.unwrap_err();
    assert!(refused.to_string().contains("token"), "{refused}");
    assert!(fake.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_listening_means_nothing_was_done() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = users_client(&format!("http://{free}"), "t");
    let error = client.create(&ctx(), details()).await.unwrap_err();
    assert!(matches!(&error, UsersError::Unavailable(cause) if !cause.maybe_done), "{error}");
}
