//! Copying and following, end to end.
//!
//! Invariant: each test writes to the source as an application would, through other connections than the engine's.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use super::world::{World, plain};
use crate::drivers::postgres::PostgresDriver;
use crate::engine::catch_up::Follower;
use crate::engine::prune::prune;
use crate::engine::{Bound, Driver as _, Join, KeyRange, Mapping, Phase, Target as _};
use crate::fail_point::FailPoints;

const ITEMS: &str = "CREATE TABLE item (id int PRIMARY KEY, name text, price numeric);
    INSERT INTO item SELECT i, 'item ' || i, i / 7.0 FROM generate_series(1, 40) i;";
const EMPTY: &str =
    "CREATE TABLE item (id bigint PRIMARY KEY, name varchar(80), price numeric, note text DEFAULT 'own')";
const ALL: &str = "SELECT id, name, price FROM item";

fn items() -> World {
    World::new(ITEMS, EMPTY, vec![plain("item", &["id", "name", "price"])])
}

#[test]
fn a_chunk_that_is_split_leaves_no_gap_whichever_it_is() {
    let world = items();
    world.begin(Phase::Following).unwrap();
    let (mut target, mut bound) = (world.target_end(), 0);
    let at = |key: i64| Bound(format!("[\"{key}\"]"));
    let mut end = |_: &Mapping, _: Option<&Bound>| {
        bound += 10;
        Ok((bound < 30).then(|| at(bound)))
    };
    let mut lease = || target.lease_chunk(&world.stream, 60, &mut end).unwrap().unwrap();
    let (first, second) = (lease(), lease());
    let mut other = world.target_end();
    assert!(other.split_chunk(&second, &at(15)).unwrap());
    assert!(other.split_chunk(&first, &at(5)).unwrap());
    let ranges = [lease(), lease(), lease()].map(|lease| lease.range);
    let range = |after, up_to: Option<i64>| KeyRange { after: Some(at(after)), up_to: up_to.map(at) };
    assert_eq!(ranges, [range(5, Some(10)), range(15, Some(20)), range(20, None)]);
    other.release_chunk(&first).unwrap();
    assert_eq!(lease().range, KeyRange { after: None, up_to: Some(at(5)) });
    assert!(!other.split_chunk(&first, &at(3)).unwrap(), "the lease is another's");
}

#[test]
fn rows_are_loaded_and_then_followed() {
    let world = items();
    world.begin(Phase::Loading).unwrap();
    world.copy();
    world.target_end().finish_loading(&world.stream).unwrap();
    world.assert_same(ALL, ALL);
    world.source.run("INSERT INTO item VALUES (41, 'new', 1); UPDATE item SET name = 'x' WHERE id < 9; DELETE FROM item WHERE id = 20").unwrap();
    let caught = world.follow();
    assert_eq!((caught.keys, caught.rows), (10, 10));
    world.assert_same(ALL, ALL);
    assert!(world.sums_agree(0));
    assert_eq!(world.follow().keys, 0);
}

#[test]
fn what_was_committed_while_chunks_ran_arrives() {
    let world = items();
    world.begin(Phase::Following).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                let sql = "UPDATE item SET name = name || 'x' WHERE id % 5 = {r} % 5; \
                    DELETE FROM item WHERE id = 1 + {r} % 40; \
                    INSERT INTO item VALUES (1 + {r} % 40, 'again', {r}) ON CONFLICT DO NOTHING; \
                    UPDATE item SET id = id + 1000 * {r} WHERE id = 3 + {r} % 30"
                    .replace("{r}", &round.to_string());
                world.source.run(&sql).unwrap();
            }
        });
        for _ in 0..3 {
            world.try_copy().unwrap();
            world.follow();
        }
        stop.store(true, Ordering::Relaxed);
    });
    world.follow();
    world.assert_same(ALL, ALL);
    assert!(world.sums_agree(0));
}

#[test]
fn a_truncated_table_is_emptied_at_the_target() {
    let world = items().copied();
    world.source.run("BEGIN; TRUNCATE item; INSERT INTO item VALUES (5, 'after', 1); COMMIT").unwrap();
    world.follow();
    world.assert_same(ALL, ALL);
}

#[test]
fn several_tables_feed_one_row_and_one_row_feeds_several_tables() {
    let source = "CREATE TABLE owner (id int PRIMARY KEY, name text);
        CREATE TABLE item (id int PRIMARY KEY, owner int, name text, front text, back text);
        INSERT INTO owner SELECT i, 'owner ' || i FROM generate_series(1, 5) i;
        INSERT INTO item SELECT i, 1 + i % 5, 'item ' || i, 'f' || i, 'b' || i FROM generate_series(1, 20) i";
    let target = "CREATE TABLE item (id int PRIMARY KEY, name text, owner_name text);
        CREATE TABLE side (item int, face text, text text, PRIMARY KEY (item, face))";
    let mut whole = plain("item", &["id", "name", "owner_name"]);
    whole.select =
        "SELECT i.id, i.name, o.name FROM item i LEFT JOIN owner o ON o.id = i.owner WHERE {keys i.id}"
            .into();
    let keys = Some("SELECT id FROM item WHERE {values owner}".to_owned());
    whole.joins = vec![Join { table: "owner".into(), columns: vec!["id".into()], keys }];
    let sides = Mapping {
        table: "side".into(),
        key: vec!["item".into(), "face".into()],
        columns: ["item", "face", "text"].map(str::to_owned).to_vec(),
        carries: vec!["item".into()],
        select: "SELECT id, 'front', front FROM item WHERE {keys id} AND front IS NOT NULL \
            UNION ALL SELECT id, 'back', back FROM item WHERE {keys id}"
            .into(),
        root: "item".into(),
        root_key: vec!["id".into()],
        joins: Vec::new(),
    };
    let world = World::new(source, target, vec![whole, sides]).copied();
    let check = |world: &World| {
        world.assert_same(
            "SELECT i.id, i.name, o.name FROM item i LEFT JOIN owner o ON o.id = i.owner",
            "SELECT id, name, owner_name FROM item",
        );
        world.assert_same(
            "SELECT id, 'front', front FROM item WHERE front IS NOT NULL UNION ALL SELECT id, 'back', back FROM item",
            "SELECT item, face, text FROM side",
        );
        assert!(world.sums_agree(0) && world.sums_agree(1));
    };
    check(&world);
    world.source.run("UPDATE owner SET name = 'renamed' WHERE id = 2; DELETE FROM owner WHERE id = 3; \
        UPDATE item SET front = NULL WHERE id = 4; DELETE FROM item WHERE id = 6; UPDATE item SET id = 90 WHERE id = 7").unwrap();
    world.follow();
    check(&world);
}

#[test]
fn partitions_are_followed_on_both_sides() {
    let partitioned =
        "CREATE TABLE item (id int, kind text, name text, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
        CREATE TABLE item_a PARTITION OF item FOR VALUES IN ('a');
        CREATE TABLE item_rest PARTITION OF item DEFAULT;";
    let mut mapping = plain("item", &["id", "kind", "name"]);
    mapping.key = vec!["id".into(), "kind".into()];
    mapping.carries = mapping.key.clone();
    mapping.root_key = mapping.key.clone();
    mapping.select = "SELECT id, kind, name FROM item WHERE {keys id, kind}".into();
    let rows = "INSERT INTO item SELECT i, chr(97 + i % 3), 'n' FROM generate_series(1, 30) i";
    let world = World::new(&format!("{partitioned} {rows}"), partitioned, vec![mapping]).copied();
    world.assert_same("SELECT * FROM item", "SELECT * FROM item");
    world.source.run("UPDATE item SET kind = 'a' WHERE id IN (1, 2); TRUNCATE item_rest; INSERT INTO item VALUES (99, 'z', '')").unwrap();
    world.follow();
    world.assert_same("SELECT * FROM item", "SELECT * FROM item");
    assert!(world.sums_agree(0));
    // A partition that comes later has no place in the fingerprint.
    world.source.run("CREATE TABLE item_b PARTITION OF item FOR VALUES IN ('q')").unwrap();
    let error = world.try_follow().unwrap_err().to_string();
    assert!(error.contains("item_b") && error.contains("migrate capture install"), "{error}");
}

#[test]
fn a_row_that_leaves_the_filter_leaves_the_target() {
    let mut mapping = plain("item", &["id", "name", "price"]);
    mapping.select = "SELECT id, name, price FROM item WHERE {keys id} AND price < 3".into();
    let world = World::new(ITEMS, EMPTY, vec![mapping]).copied();
    world
        .source
        .run("UPDATE item SET price = 50 WHERE id = 2; UPDATE item SET price = 1 WHERE id = 30")
        .unwrap();
    world.follow();
    world.assert_same(&format!("{ALL} WHERE price < 3"), ALL);
}

#[test]
fn a_chunk_leaves_what_catch_up_brought_further_since_it_was_read() {
    let mut world = items();
    world.begin(Phase::Following).unwrap();
    let (driver, stream) = (world.driver.clone(), world.stream.clone());
    world.chunk = 100;
    world.behind_first_read(move |writer| {
        writer
            .batch_execute("UPDATE item SET name = 'newer' WHERE id < 5; DELETE FROM item WHERE id = 7; UPDATE item SET id = 900 WHERE id = 8")
            .unwrap();
        let points = FailPoints::none();
        Follower::claim(&driver, &stream, 2, &points).unwrap().batch().unwrap();
    });
    world.copy();
    world.assert_same(ALL, ALL);
}

#[test]
fn a_chunk_leaves_what_a_batch_under_way_brought_further_since_it_was_read() {
    let mut world = items();
    world.begin(Phase::Following).unwrap();
    let (driver, stream, url) = (world.driver.clone(), world.stream.clone(), world.source.url().to_owned());
    let (applied, first) = channel();
    let (go_on, told) = channel::<()>();
    let told = Mutex::new(told);
    let points = FailPoints::watched(move |point| {
        if point == "catch_up_piece" {
            applied.send(()).ok();
            // Whoever gave up waiting is told by the closed channel.
            told.lock().unwrap().recv().ok();
        }
    });
    let (followed, follower) = channel();
    let followed = std::cell::Cell::new(Some((points, followed)));
    world.chunk = 100;
    world.points = FailPoints::watched(move |point| {
        let Some((points, followed)) = (point == "chunk_read").then(|| followed.take()).flatten() else {
            return;
        };
        let mut writer = postgres::Client::connect(&url, postgres::NoTls).unwrap();
        writer
            .batch_execute("UPDATE item SET name = 'newer' WHERE id < 5; DELETE FROM item WHERE id = 1")
            .unwrap();
        let (driver, stream) = (driver.clone(), stream.clone());
        let batch = move || Follower::claim(&driver, &stream, 2, &points).unwrap().batch().unwrap();
        followed.send(thread::spawn(batch)).unwrap();
        first.recv().unwrap();
    });
    world.copy();
    drop(go_on);
    assert_eq!(follower.recv().unwrap().join().unwrap().keys, 4);
    world.assert_same(ALL, ALL);
}

#[test]
fn the_log_behind_a_chunk_under_way_is_kept_although_catch_up_has_passed_it() {
    let mut world = items();
    world.begin(Phase::Following).unwrap();
    let (driver, stream) = (world.driver.clone(), world.stream.clone());
    world.chunk = 100;
    world.behind_first_read(move |writer| {
        writer
            .batch_execute("UPDATE item SET name = 'newer' WHERE id < 5; DELETE FROM item WHERE id = 7")
            .unwrap();
        let points = FailPoints::none();
        Follower::claim(&driver, &stream, 9, &points).unwrap().batch().unwrap();
        let (mut source, mut target) = (driver.source().unwrap(), driver.target().unwrap());
        prune::<PostgresDriver>(&mut source, &mut target, &stream).unwrap();
    });
    world.copy();
    world.assert_same(ALL, ALL);
}

#[test]
fn a_worker_whose_stream_was_taken_over_writes_nothing_more() {
    let world = items().copied();
    let mut first = Follower::claim(&world.driver, &world.stream, 9, &world.points).unwrap();
    let mut second = Follower::claim(&world.driver, &world.stream, 9, &world.points).unwrap();
    world.source.run("UPDATE item SET name = 'x' WHERE id = 1").unwrap();
    assert_eq!(first.batch().unwrap_err().exit_code(), 3);
    assert_eq!(world.target.run("SELECT name FROM item WHERE id = 1").unwrap(), "item 1");
    assert_eq!(second.batch().unwrap().rows, 1);
}
