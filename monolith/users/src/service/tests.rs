//! The port's suite, the replica's suite, and what only this store can show.

use contracts::replication::IntentLog;
use contracts::suite::{self, Delivery, ReplicaFixture, Step, UsersFixture};
use contracts::{FixedClock, Timestamp};
use db::replication::{self, ContextLog};
use db::{DatabaseSettings, DbError, schema};
use diesel::connection::SimpleConnection;
use proptest::prelude::{ProptestConfig, Strategy, any, prop, proptest};
use proptest::prop_oneof;

use super::*;
use crate::SCHEMA;

struct Side {
    _folder: tempfile::TempDir,
    service: UsersService,
    log: ContextLog,
}

fn side(fence_open: bool) -> Side {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("monolith.db");
    let db = Db::open(&DatabaseSettings { path, readers: 1, ..DatabaseSettings::default() }).unwrap();
    schema::apply(&db, &[replication::SCHEMA, SCHEMA]).unwrap();
    db.write_blocking(|conn| {
        replication::ensure_context(conn, CONTEXT, fence_open)?;
        Ok::<_, DbError>(conn.batch_execute("UPDATE banyan_contexts SET dual_write = 1")?)
    })
    .unwrap();
    let clock = Arc::new(FixedClock(Timestamp::from_millis(1_291_191_960_000)));
    Side { log: ContextLog::new(db.clone(), CONTEXT), service: UsersService::new(db, clock), _folder: folder }
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

async fn owner() -> Side {
    side(true)
}

async fn pair() -> Pair {
    Pair { owner: side(true), replica: side(false) }
}

contracts::users_suite!(owner);
contracts::replica_suite!(pair);

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_interrupted_delivery_ends_equal(steps in steps(), deliveries in deliveries()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { suite::run_script(&pair().await, &steps, &deliveries).await });
    }
}

#[tokio::test]
async fn a_side_that_does_not_own_the_users_takes_no_writes_and_goes_on_reading() {
    let side = side(false);
    let users = side.users();
    let details = suite::person("Ann", "ann@example.com");
    let id = UserId::try_from(1).unwrap();
    assert_eq!(users.create(&suite::call(), details.clone()).await, Err(UsersError::NotOwner));
    assert_eq!(users.update(&suite::call(), id, details.clone()).await, Err(UsersError::NotOwner));
    assert_eq!(users.delete(&suite::call(), id).await, Err(UsersError::NotOwner));
    assert_eq!(users.ensure(&suite::call(), vec![details]).await, Err(UsersError::NotOwner));
    assert_eq!(suite::all_users(users).await, []);
}

#[tokio::test]
async fn an_image_of_another_user_than_its_id_says_is_malformed() {
    let pair = pair().await;
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
