//! The counter, the fence, the intents, and the rules of a replica on the smallest possible table.

use contracts::replication::{Applied, Fence, FenceState, Image, IntentLog, ReplicaError};
use diesel::connection::SimpleConnection;
use serde_json::json;

use super::*;
use crate::testing::{Scratch, scratch};
use crate::{Backend, on_both};

on_both!(backend => [
    versions_grow_by_one_with_every_change,
    a_change_that_fails_gives_its_version_back,
    a_closed_fence_refuses_and_takes_no_version,
    a_context_without_a_row_is_told_from_a_closed_fence,
    the_fence_moves_only_from_the_token_seen,
    images_are_kept_only_while_dual_write_is_on,
    delivered_images_leave_and_later_ones_stay,
    the_owner_takes_no_images,
    an_image_that_came_before_or_is_older_is_stale,
    a_removal_of_an_unknown_id_keeps_older_images_out,
    a_value_held_by_a_newer_row_is_superseded_and_nothing_is_written,
    a_value_held_by_an_older_row_is_a_conflict_until_that_row_moves,
    a_malformed_image_is_refused_with_its_reason,
    a_replica_that_becomes_the_owner_counts_on_from_the_highest_version,
    images_that_come_at_once_end_at_the_newest,
    changes_made_at_once_are_kept_in_order_without_a_gap,
]);

/// Each fact opens the fence as it needs it.
fn backend(backend: Backend) -> Backend {
    backend
}

diesel::table! {
    nests (id) {
        id -> BigInt,
        spot -> Text,
        version -> BigInt,
    }
}

/// One unique value per row is all that the rules speak of.
struct Nests;

impl ReplicaTable for Nests {
    type Key = i64;
    type State = (String, i64);

    const CONTEXT: &'static str = "nests";

    fn key(id: &str) -> Result<i64, String> {
        id.parse().map_err(|_| "no number".to_owned())
    }

    fn state(_: i64, version: i64, value: Value) -> Result<Self::State, String> {
        Ok((value.as_str().ok_or("no text")?.to_owned(), version))
    }

    fn version(conn: &mut Conn, key: i64) -> QueryResult<Option<i64>> {
        nests::table.find(key).select(nests::version).first(conn).optional()
    }

    fn rival(conn: &mut Conn, key: i64, state: &Self::State) -> QueryResult<Option<Rival>> {
        let others = nests::table.filter(nests::spot.eq(&state.0)).filter(nests::id.ne(key));
        let rival: Option<(i64, i64)> = others.select((nests::id, nests::version)).first(conn).optional()?;
        Ok(rival.map(|(id, version)| Rival { id: id.to_string(), version }))
    }

    fn put(conn: &mut Conn, key: i64, (spot, version): &Self::State) -> QueryResult<()> {
        let row = (nests::id.eq(key), nests::spot.eq(spot), nests::version.eq(version));
        on_each!(conn, |conn| {
            diesel::insert_into(nests::table)
                .values(row)
                .on_conflict(nests::id)
                .do_update()
                .set((nests::spot.eq(spot), nests::version.eq(version)))
                .execute(conn)?
        });
        Ok(())
    }

    fn remove(conn: &mut Conn, key: i64) -> QueryResult<()> {
        diesel::delete(nests::table.find(key)).execute(conn)?;
        Ok(())
    }
}

struct Fixture {
    db: Scratch,
    log: ContextLog,
}

fn fixture(backend: Backend, fence_open: bool) -> Fixture {
    let db = scratch(backend, &[SCHEMA]);
    db.write_blocking(|conn| {
        conn.batch_execute("CREATE TABLE nests (id BIGINT PRIMARY KEY, spot TEXT UNIQUE, version BIGINT)")?;
        ensure_context(conn, "nests", fence_open)?;
        Ok::<_, DbError>(())
    })
    .unwrap();
    Fixture { log: ContextLog::new(db.clone(), "nests"), db }
}

impl Fixture {
    fn switch_dual_write_on(&self) {
        let switch = "UPDATE banyan_contexts SET dual_write = TRUE";
        self.db.write_blocking(|conn| Ok::<_, DbError>(conn.batch_execute(switch)?)).unwrap();
    }

    fn change(&self, id: &'static str, state: Option<Value>) -> Result<i64, ChangeError> {
        self.db.write_blocking(|conn| {
            let change = Change::begin(conn, "nests")?;
            change.record(conn, id, state.as_ref())?;
            Ok(change.version)
        })
    }

    async fn apply(&self, version: i64, id: &str, spot: Option<&str>) -> Result<Applied, ReplicaError> {
        let image = Image { version, id: id.to_owned(), state: spot.map(|spot| json!(spot)) };
        apply::<Nests>(&self.db, image).await
    }

    fn rows(&self) -> Vec<(i64, String, i64)> {
        self.db.read_blocking(|conn| Ok::<_, DbError>(nests::table.order(nests::id).load(conn)?)).unwrap()
    }

    fn counter(&self) -> i64 {
        let counter = banyan_contexts::table.find("nests").select(banyan_contexts::version);
        self.db.read_blocking(|conn| Ok::<_, DbError>(counter.first(conn)?)).unwrap()
    }
}

async fn versions_grow_by_one_with_every_change(backend: Backend) {
    let fixture = fixture(backend, true);
    let versions: Vec<i64> = (0..3).map(|_| fixture.change("1", None).unwrap()).collect();
    assert_eq!(versions, [1, 2, 3]);
}

async fn a_change_that_fails_gives_its_version_back(backend: Backend) {
    let fixture = fixture(backend, true);
    let failed = fixture.db.write_blocking(|conn| {
        Change::begin(conn, "nests")?;
        Err::<(), _>(ChangeError::Fenced)
    });
    assert!(failed.is_err());
    assert_eq!(fixture.change("1", None).unwrap(), 1);
}

async fn a_closed_fence_refuses_and_takes_no_version(backend: Backend) {
    let fixture = fixture(backend, false);
    assert!(matches!(fixture.change("1", None), Err(ChangeError::Fenced)));
    assert_eq!(fixture.counter(), 0);
}

async fn a_context_without_a_row_is_told_from_a_closed_fence(backend: Backend) {
    let fixture = fixture(backend, true);
    let refused = fixture.db.write_blocking(|conn| Change::begin(conn, "eggs").map(|_| ()));
    assert!(matches!(refused, Err(ChangeError::Database(DbError::NoCounter { .. }))));
}

async fn the_fence_moves_only_from_the_token_seen(backend: Backend) {
    let fixture = fixture(backend, true);
    assert_eq!(fixture.log.state().await.unwrap(), FenceState { closed: false, token: 0 });
    assert!(fixture.log.close(0, 4).await.unwrap());
    assert_eq!(fixture.log.state().await.unwrap(), FenceState { closed: true, token: 4 });
    assert!(!fixture.log.open(0, 5).await.unwrap());
    assert!(fixture.log.open(4, 5).await.unwrap());
    assert!(fixture.change("1", None).is_ok());
}

async fn images_are_kept_only_while_dual_write_is_on(backend: Backend) {
    let fixture = fixture(backend, true);
    fixture.change("1", Some(json!("oak"))).unwrap();
    assert_eq!(fixture.log.backlog().await.unwrap().pending, 0);
    fixture.switch_dual_write_on();
    fixture.change("1", Some(json!("elm"))).unwrap();
    fixture.change("1", None).unwrap();
    let images = fixture.log.pending(9).await.unwrap();
    let expected = [
        Image { version: 2, id: "1".to_owned(), state: Some(json!("elm")) },
        Image { version: 3, id: "1".to_owned(), state: None },
    ];
    assert_eq!(images, expected);
    assert_eq!(fixture.log.backlog().await.unwrap().pending, 2);
}

async fn delivered_images_leave_and_later_ones_stay(backend: Backend) {
    let fixture = fixture(backend, true);
    fixture.switch_dual_write_on();
    for _ in 0..3 {
        fixture.change("1", None).unwrap();
    }
    fixture.log.delivered(2).await.unwrap();
    let left: Vec<i64> = fixture.log.pending(9).await.unwrap().iter().map(|image| image.version).collect();
    assert_eq!(left, [3]);
}

async fn the_owner_takes_no_images(backend: Backend) {
    let fixture = fixture(backend, true);
    let refused = fixture.apply(1, "1", Some("oak")).await;
    assert_eq!(refused, Err(ReplicaError::Owner { context: "nests".to_owned() }));
}

async fn an_image_that_came_before_or_is_older_is_stale(backend: Backend) {
    let fixture = fixture(backend, false);
    assert_eq!(fixture.apply(2, "1", Some("oak")).await, Ok(Applied::Stored));
    assert_eq!(fixture.apply(2, "1", Some("oak")).await, Ok(Applied::Stale));
    assert_eq!(fixture.apply(1, "1", Some("elm")).await, Ok(Applied::Stale));
    assert_eq!(fixture.rows(), [(1, "oak".to_owned(), 2)]);
}

async fn a_removal_of_an_unknown_id_keeps_older_images_out(backend: Backend) {
    let fixture = fixture(backend, false);
    assert_eq!(fixture.apply(5, "1", None).await, Ok(Applied::Stored));
    assert_eq!(fixture.apply(4, "1", Some("oak")).await, Ok(Applied::Stale));
    assert_eq!(fixture.rows(), []);
    assert_eq!(fixture.counter(), 5);
}

async fn a_value_held_by_a_newer_row_is_superseded_and_nothing_is_written(backend: Backend) {
    let fixture = fixture(backend, false);
    fixture.apply(8, "2", Some("oak")).await.unwrap();
    assert_eq!(fixture.apply(5, "1", Some("oak")).await, Ok(Applied::Superseded));
    assert_eq!(fixture.rows(), [(2, "oak".to_owned(), 8)]);
}

async fn a_value_held_by_an_older_row_is_a_conflict_until_that_row_moves(backend: Backend) {
    let fixture = fixture(backend, false);
    fixture.apply(1, "1", Some("oak")).await.unwrap();
    let conflict = ReplicaError::Conflict { version: 3, id: "2".to_owned(), holder: "1".to_owned() };
    assert_eq!(fixture.apply(3, "2", Some("oak")).await, Err(conflict));
    fixture.apply(2, "1", Some("elm")).await.unwrap();
    assert_eq!(fixture.apply(3, "2", Some("oak")).await, Ok(Applied::Stored));
}

async fn a_malformed_image_is_refused_with_its_reason(backend: Backend) {
    let fixture = fixture(backend, false);
    for (version, id) in [(0, "1"), (1, "one")] {
        let refused = fixture.apply(version, id, Some("oak")).await;
        assert!(matches!(refused, Err(ReplicaError::Malformed { .. })), "{refused:?}");
    }
}

async fn a_replica_that_becomes_the_owner_counts_on_from_the_highest_version(backend: Backend) {
    let fixture = fixture(backend, false);
    fixture.apply(41, "1", Some("oak")).await.unwrap();
    assert!(fixture.log.open(0, 1).await.unwrap());
    assert_eq!(fixture.change("1", None).unwrap(), 42);
}

async fn images_that_come_at_once_end_at_the_newest(backend: Backend) {
    let fixture = fixture(backend, false);
    let images: Vec<_> = (1..=40)
        .map(|version| {
            let image = Image { version, id: "1".to_owned(), state: Some(json!(version.to_string())) };
            let db = fixture.db.clone();
            tokio::spawn(async move { apply::<Nests>(&db, image).await })
        })
        .collect();
    for image in images {
        image.await.unwrap().unwrap();
    }
    assert_eq!(fixture.rows(), [(1, "40".to_owned(), 40)]);
}

async fn changes_made_at_once_are_kept_in_order_without_a_gap(backend: Backend) {
    let fixture = fixture(backend, true);
    fixture.switch_dual_write_on();
    let changes: Vec<_> = (0..40)
        .map(|_| {
            let db = fixture.db.clone();
            let work = |conn: &mut Conn| {
                let change = Change::begin(conn, "nests")?;
                Ok::<_, ChangeError>(change.record(conn, "1", None)?)
            };
            tokio::spawn(async move { db.write(work).await })
        })
        .collect();
    for change in changes {
        change.await.unwrap().unwrap();
    }
    let kept = fixture.log.pending(99).await.unwrap();
    assert_eq!(kept.iter().map(|image| image.version).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
}
