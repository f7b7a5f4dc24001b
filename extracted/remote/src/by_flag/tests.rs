//! Routing by flag, against two contexts in memory.

use std::sync::Mutex;

use contracts::{Timestamp, Unavailable};
use control::{Flag, Weight};

use super::*;

/// A context that knows every user or nobody, remembers what it was asked, and can be down.
struct Fake {
    asked: Mutex<Vec<&'static str>>,
    is_down: bool,
    knows_nobody: bool,
}

impl Fake {
    fn new(is_down: bool) -> Arc<Self> {
        Arc::new(Self { asked: Mutex::new(Vec::new()), is_down, knows_nobody: false })
    }

    fn empty() -> Arc<Self> {
        Arc::new(Self { asked: Mutex::new(Vec::new()), is_down: false, knows_nobody: true })
    }

    fn answer<T>(&self, method: &'static str, value: T) -> Result<T, UsersError> {
        self.asked.lock().unwrap().push(method);
        if self.is_down {
            let cause = Unavailable { context: "users".into(), reason: "down".into(), maybe_done: false };
            return Err(cause.into());
        }
        Ok(value)
    }

    fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn ann() -> UserDetails {
    UserDetails::parse("Ann".into(), "ann@example.com".into(), None, Vec::new()).unwrap()
}

fn user(id: UserId, details: UserDetails) -> User {
    let at = Timestamp::from_millis(0);
    User { id, details, created_at: at, updated_at: at, version: 1 }
}

fn one() -> UserId {
    UserId::try_from(1).unwrap()
}

#[async_trait]
impl Users for Fake {
    async fn create(&self, _: &CallContext, details: UserDetails) -> Result<User, UsersError> {
        self.answer("create", user(one(), details))
    }
    async fn get(&self, _: &CallContext, id: UserId) -> Result<User, UsersError> {
        let found = self.answer("get", user(id, ann()))?;
        if self.knows_nobody { Err(UsersError::NotFound { id }) } else { Ok(found) }
    }
    async fn update(
        &self,
        _: &CallContext,
        id: UserId,
        details: UserDetails,
        _: Option<i64>,
    ) -> Result<User, UsersError> {
        self.answer("update", user(id, details))
    }
    async fn delete(&self, _: &CallContext, _: UserId, _: Option<i64>) -> Result<i64, UsersError> {
        self.answer("delete", 1)
    }
    async fn list(&self, _: &CallContext, _: Option<UserId>, _: u32) -> Result<Page<User>, UsersError> {
        self.answer("list", Page { items: Vec::new(), more: false })
    }
    async fn ensure(&self, _: &CallContext, _: Vec<UserDetails>) -> Result<Vec<Ensured<UserId>>, UsersError> {
        self.answer("ensure", Vec::new())
    }
}

fn ctx() -> CallContext {
    CallContext::new("test", Duration::from_secs(1))
}

fn flag(reads: i64, writes: Side) -> Flag {
    Flag { reads: Weight::from_basis_points(reads).unwrap(), writes, ..Flag::unmoved("users") }
}

#[tokio::test]
async fn reads_and_writes_follow_the_flag_without_a_restart() {
    let (embedded, remote) = (Fake::new(false), Fake::new(false));
    let flags = Flags::new(flag(0, Side::Monolith));
    let users = FlagUsers::new(embedded.clone(), remote.clone(), flags.clone());
    for (now, at_monolith, at_service) in [
        (flag(0, Side::Monolith), vec!["get", "list", "delete"], vec![]),
        (flag(10_000, Side::Monolith), vec!["list", "delete"], vec!["get"]),
        (flag(10_000, Side::Service), vec![], vec!["get", "list", "delete"]),
    ] {
        flags.publish(now);
        users.get(&ctx(), one()).await.unwrap();
        users.list(&ctx(), None, 1).await.unwrap();
        users.delete(&ctx(), one(), None).await.unwrap();
        assert_eq!((embedded.asked(), remote.asked()), (at_monolith, at_service));
    }
}

#[tokio::test]
async fn a_failed_canary_read_is_answered_here_once() {
    let (embedded, remote) = (Fake::new(false), Fake::new(true));
    let users = FlagUsers::new(embedded.clone(), remote.clone(), Flags::new(flag(10_000, Side::Monolith)));
    assert!(users.get(&ctx(), one()).await.is_ok());
    assert_eq!((embedded.asked(), remote.asked()), (vec!["get"], vec!["get"]));
}

#[tokio::test]
async fn a_user_whom_the_canary_does_not_know_yet_is_found_here() {
    let (embedded, remote) = (Fake::new(false), Fake::empty());
    let users = FlagUsers::new(embedded.clone(), remote.clone(), Flags::new(flag(10_000, Side::Monolith)));
    assert!(users.get(&ctx(), one()).await.is_ok());
    assert_eq!((embedded.asked(), remote.asked()), (vec!["get"], vec!["get"]));
}

#[tokio::test]
async fn a_user_whom_the_owning_service_does_not_know_is_not_there() {
    let (embedded, remote) = (Fake::new(false), Fake::empty());
    let users = FlagUsers::new(embedded.clone(), remote, Flags::new(flag(10_000, Side::Service)));
    assert!(matches!(users.get(&ctx(), one()).await, Err(UsersError::NotFound { .. })));
    assert!(embedded.asked().is_empty());
}

#[tokio::test]
async fn what_the_service_owns_is_not_answered_here() {
    let (embedded, remote) = (Fake::new(false), Fake::new(true));
    let users = FlagUsers::new(embedded.clone(), remote, Flags::new(flag(10_000, Side::Service)));
    assert!(matches!(users.get(&ctx(), one()).await, Err(UsersError::Unavailable(_))));
    assert!(users.create(&ctx(), ann()).await.is_err());
    assert!(embedded.asked().is_empty());
}
