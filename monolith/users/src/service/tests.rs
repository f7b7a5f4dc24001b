//! The port's suite and the replica's suite on both databases, and what only this store can show.

use contracts::replication::IntentLog;
use contracts::suite::{self, Delivery, ReplicaFixture, Step, UsersFixture};
use contracts::{FixedClock, IdempotencyKey, Timestamp};
use db::replication::{self, ContextLog};
use db::testing::{Scratch, run, scratch};
use db::{Backend, DbError, schema};
use diesel::connection::SimpleConnection;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, proptest};
use proptest::prop_oneof;

use super::*;
use crate::SCHEMA;

struct Side {
    service: UsersService,
    log: ContextLog,
    _db: Scratch,
}

fn side(backend: Backend, fence_open: bool) -> Side {
    let db = scratch(backend, &[replication::SCHEMA, idempotency::SCHEMA, SCHEMA]);
    db.write_blocking(|conn| {
        replication::ensure_context(conn, CONTEXT, fence_open)?;
        Ok::<_, DbError>(conn.batch_execute("UPDATE banyan_contexts SET dual_write = TRUE")?)
    })
    .unwrap();
    let clock = Arc::new(FixedClock(Timestamp::from_millis(1_291_191_960_000)));
    Side { log: ContextLog::new(db.clone(), CONTEXT), service: UsersService::new(db.clone(), clock), _db: db }
}

fn owner(backend: Backend) -> Side {
    side(backend, true)
}

impl UsersFixture for Side {
    fn users(&self) -> &dyn Users {
        &self.service
    }
}

struct Pair {
    owner: Side,
    replica: Side,
}

fn pair(owner: Backend, replica: Backend) -> Pair {
    Pair { owner: side(owner, true), replica: side(replica, false) }
}

impl ReplicaFixture for Pair {
    fn owner(&self) -> &dyn Users {
        &self.owner.service
    }

    fn log(&self) -> &dyn IntentLog {
        &self.owner.log
    }

    fn sink(&self) -> &dyn ReplicaSink {
        &self.replica.service
    }

    fn replica(&self) -> &dyn Users {
        &self.replica.service
    }
}

mod suites_on_sqlite {
    use db::Backend::Sqlite;

    async fn owner() -> super::Side {
        super::owner(Sqlite)
    }

    async fn pair() -> super::Pair {
        super::pair(Sqlite, Sqlite)
    }

    contracts::users_suite!(owner);
    contracts::replica_suite!(pair);
}

mod suites_on_postgres {
    use db::Backend::Postgres;

    async fn owner() -> super::Side {
        super::owner(Postgres)
    }

    async fn pair() -> super::Pair {
        super::pair(Postgres, Postgres)
    }

    contracts::users_suite!(owner);
    contracts::replica_suite!(pair);
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few addresses, so that they collide and move between users often.
    let step = prop_oneof![
        3 => (0..6_u8).prop_map(Step::Create),
        4 => (any::<u8>(), 0..6_u8).prop_map(|(place, number)| Step::Update(place, number)),
        2 => any::<u8>().prop_map(Step::Delete),
    ];
    prop::collection::vec(step, 1..30)
}

fn deliveries() -> impl Strategy<Value = Vec<Delivery>> {
    prop::collection::vec((0..12_u8, 0..12_u8).prop_map(|(forth, back)| Delivery { forth, back }), 0..8)
}

fn database() -> impl Strategy<Value = Backend> {
    prop_oneof![Just(Backend::Sqlite), Just(Backend::Postgres)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_interrupted_delivery_ends_equal(
        owner in database(), replica in database(), steps in steps(), deliveries in deliveries(),
    ) {
        run(async { suite::run_script(&pair(owner, replica), &steps, &deliveries).await });
    }
}

db::on_both!(owner => [
    creating_under_one_key_at_once_adds_one_user,
    ensuring_at_once_adds_once,
    of_updates_at_one_version_at_once_one_is_done,
]);

async fn creating_under_one_key_at_once_adds_one_user(side: Side) {
    let key = IdempotencyKey::parse("k", "Ann").unwrap();
    let ctx = CallContext { idempotency: Some(key), ..suite::call() };
    let create = || side.service.create(&ctx, suite::person("Ann", "ann@example.com"));
    let (one, other) = tokio::join!(create(), create());
    assert_eq!(one, other);
    assert_eq!(suite::all_users(side.users()).await, [one.unwrap()]);
}

async fn ensuring_at_once_adds_once(side: Side) {
    let ctx = suite::call();
    let ensure = || side.service.ensure(&ctx, vec![suite::person("Ann", "ann@example.com")]);
    let (one, other) = tokio::join!(ensure(), ensure());
    let added: Vec<bool> = [one, other].into_iter().flat_map(Result::unwrap).map(|it| it.added).collect();
    assert!(added == [true, false] || added == [false, true], "{added:?}");
}

async fn of_updates_at_one_version_at_once_one_is_done(side: Side) {
    let ctx = suite::call();
    let ann = side.service.create(&ctx, suite::person("Ann", "ann@example.com")).await.unwrap();
    let update = |name| side.service.update(&ctx, ann.id, suite::person(name, "a@b"), Some(ann.version));
    let (lee, may) = tokio::join!(update("Lee"), update("May"));
    let changed = Err(UsersError::Changed { id: ann.id });
    assert!((lee == changed) != (may == changed), "{lee:?} and {may:?}");
    assert_eq!(side.service.get(&ctx, ann.id).await, lee.or(may));
}

#[tokio::test]
async fn a_side_that_does_not_own_the_users_takes_no_writes_and_goes_on_reading() {
    let side = side(Backend::Sqlite, false);
    let users = side.users();
    let details = suite::person("Ann", "ann@example.com");
    let id = UserId::try_from(1).unwrap();
    assert_eq!(users.create(&suite::call(), details.clone()).await, Err(UsersError::NotOwner));
    assert_eq!(users.update(&suite::call(), id, details.clone(), None).await, Err(UsersError::NotOwner));
    assert_eq!(users.delete(&suite::call(), id, Some(1)).await, Err(UsersError::NotOwner));
    assert_eq!(users.ensure(&suite::call(), vec![details]).await, Err(UsersError::NotOwner));
    assert_eq!(suite::all_users(users).await, []);
}

#[tokio::test]
async fn an_image_of_another_user_than_its_id_says_is_malformed() {
    let pair = pair(Backend::Sqlite, Backend::Sqlite);
    pair.owner().create(&suite::call(), suite::person("Ann", "ann@example.com")).await.unwrap();
    let image = pair.log().pending(1).await.unwrap().remove(0);
    for wrong in [
        Image { id: "2".to_owned(), ..image.clone() },
        Image { id: "01".to_owned(), ..image.clone() },
        Image { version: 9, ..image.clone() },
        Image { state: Some(serde_json::json!({ "id": 1 })), ..image.clone() },
    ] {
        let refused = pair.sink().apply(wrong).await;
        assert!(matches!(refused, Err(ReplicaError::Malformed { .. })), "{refused:?}");
    }
    assert_eq!(pair.sink().apply(image).await, Ok(Applied::Stored));
}

#[test]
fn the_schema_lists_its_tables() {
    assert_eq!(schema::tables_of(&SCHEMA).unwrap(), SCHEMA.tables);
}
