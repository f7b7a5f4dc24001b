//! Transactions that commit late, in two phases or in part.
//!
//! Invariant: each key is applied once its transaction is visible, and never needs a second hint.

use postgres::{Client, NoTls};

use super::world::{World, plain};
use crate::engine::Rows as _;
use crate::engine::prune::prune;
use crate::engine::{Driver as _, KeyRange, Position, Source as _, Target as _, Touched};

const ITEMS: &str =
    "CREATE TABLE item (id int PRIMARY KEY, name text); INSERT INTO item VALUES (1, 'a'), (2, 'b')";
const EMPTY: &str = "CREATE TABLE item (id int PRIMARY KEY, name text)";
const ALL: &str = "SELECT * FROM item";

fn items() -> World {
    World::new(ITEMS, EMPTY, vec![plain("item", &["id", "name"])]).copied()
}

fn session(world: &World) -> Client {
    Client::connect(world.source.url(), NoTls).unwrap()
}

#[test]
fn a_transaction_that_commits_behind_later_ones_is_not_skipped() {
    let world = items();
    let mut late = session(&world);
    late.batch_execute("BEGIN; INSERT INTO item VALUES (10, 'late'); SAVEPOINT a; INSERT INTO item VALUES (11, 'in savepoint'); \
        SAVEPOINT b; INSERT INTO item VALUES (12, 'taken back'); ROLLBACK TO b").unwrap();
    world.source.run("INSERT INTO item VALUES (20, 'early')").unwrap();
    assert_eq!(world.follow().keys, 1);
    world.source.run("INSERT INTO item VALUES (21, 'early')").unwrap();
    assert_eq!(world.follow().keys, 1);
    late.batch_execute("COMMIT").unwrap();
    assert_eq!(world.follow().keys, 2);
    world.assert_same(ALL, ALL);
    assert_eq!(world.follow().keys, 0);
}

#[test]
fn a_prepared_transaction_arrives_when_it_is_committed() {
    let world = items();
    let name = world.source.name().to_owned();
    let mut two = session(&world);
    two.batch_execute(&format!(
        "BEGIN; UPDATE item SET name = 'prepared' WHERE id = 1; PREPARE TRANSACTION '{name}'"
    ))
    .unwrap();
    world.source.run("UPDATE item SET name = 'beside' WHERE id = 2").unwrap();
    assert_eq!(world.follow().keys, 1);
    world.source.run(&format!("COMMIT PREPARED '{name}'")).unwrap();
    assert_eq!(world.follow().keys, 1);
    world.assert_same(ALL, ALL);
}

#[test]
fn pruning_keeps_what_a_late_transaction_logged() {
    let world = items();
    let mut late = session(&world);
    late.batch_execute("BEGIN; INSERT INTO item VALUES (10, 'late')").unwrap();
    world.source.run("INSERT INTO item VALUES (20, 'early')").unwrap();
    world.follow();
    let (mut source, mut target) = (world.source_end(), world.target_end());
    assert_eq!(
        prune::<crate::drivers::postgres::PostgresDriver>(&mut source, &mut target, &world.stream).unwrap(),
        1
    );
    late.batch_execute("COMMIT").unwrap();
    assert_eq!(
        prune::<crate::drivers::postgres::PostgresDriver>(&mut source, &mut target, &world.stream).unwrap(),
        0
    );
    world.follow();
    world.assert_same(ALL, ALL);
    assert!(source.log_size(&world.stream).unwrap().0 > 0);
}

#[test]
fn touched_keys_are_those_between_two_snapshots() {
    let world = items();
    let mut source = world.source_end();
    let mut at = || {
        let position = source.begin(&world.stream, None).unwrap();
        source.end().unwrap();
        position
    };
    let first = at();
    world.source.run("UPDATE item SET name = 'x' WHERE id = 1").unwrap();
    let second = at();
    world.source.run("UPDATE item SET name = 'y' WHERE id = 2").unwrap();
    let mapping = &world.stream.mappings[0];
    let Touched::Keys(keys) = source.touched(mapping, &second, &first).unwrap() else { panic!("whole") };
    assert_eq!(keys.len(), 1);
    assert!(source.covers(&second, &first).unwrap());
    assert!(!source.covers(&first, &second).unwrap());
    world.source.run("TRUNCATE item").unwrap();
    let third = source.begin(&world.stream, None).unwrap();
    source.end().unwrap();
    assert!(matches!(source.touched(mapping, &third, &first).unwrap(), Touched::Whole));
}

#[test]
fn the_schema_is_locked_before_the_snapshot_is_taken() {
    let world = items();
    let mut source = world.source_end();
    source.begin(&world.stream, None).unwrap();
    let mut other = session(&world);
    let error = other
        .batch_execute("SET lock_timeout = '50ms'; ALTER TABLE item ALTER name TYPE varchar(50)")
        .unwrap_err();
    assert_eq!(error.code(), Some(&postgres::error::SqlState::LOCK_NOT_AVAILABLE));
    // LOCK takes no snapshot: what was committed between it and the first query is seen.
    let mut lock = session(&world);
    lock.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; LOCK TABLE item IN ACCESS SHARE MODE")
        .unwrap();
    world.source.run("INSERT INTO item VALUES (77, 'between')").unwrap();
    assert_eq!(lock.query("SELECT FROM item WHERE id = 77", &[]).unwrap().len(), 1);
}

#[test]
fn a_table_rewritten_while_the_lock_is_waited_for_is_read_whole() {
    let world = items();
    let mut altering = session(&world);
    altering.batch_execute("BEGIN; ALTER TABLE item ALTER name TYPE text USING upper(name)").unwrap();
    let mut source = world.source_end();
    let row = world.target_end().stream("things").unwrap().unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // What is known of the schema holds: looking at it anew would wait for the lock, too, and before the snapshot.
            source.begin(&world.stream, Some(&row.fingerprint)).unwrap();
            source.range(&world.stream.mappings[0], &KeyRange::default(), u64::MAX).unwrap().unwrap()
        });
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'item'::regclass";
        let mut looking = session(&world);
        while !reader.is_finished() && looking.query_one(waiting, &[]).unwrap().get::<_, i64>(0) == 0 {
            std::thread::yield_now();
        }
        altering.batch_execute("COMMIT").unwrap();
        // To a snapshot from before the rewriting, the table would be empty, and all its rows deleted.
        assert_eq!(reader.join().unwrap().rows.len(), 2);
    });
}

#[test]
fn a_position_of_another_server_is_refused() {
    let world = items();
    let mut target = world.target_end();
    let row = target.stream("things").unwrap().unwrap();
    let other = Position(format!("7{}", row.pos.0));
    let mut source = world.driver.source().unwrap();
    source.begin(&world.stream, None).unwrap();
    let error = source.stage_dirty(&world.stream.mappings[0], &other).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(
        error.to_string().contains("new with a backfill")
            || error.to_string().contains("anew with a backfill"),
        "{error}"
    );
}

#[test]
fn the_snapshot_is_persisted_by_a_commit_of_its_own() {
    let world = items();
    let mut source = world.source_end();
    let before = source.begin(&world.stream, None).unwrap();
    source.persist_snapshot().unwrap();
    source.end().unwrap();
    let after = source.begin(&world.stream, None).unwrap();
    assert_ne!(before, after);
    assert_eq!(world.source.run("SELECT count(*) > 0 FROM banyan.heartbeat").unwrap(), "t");
}

#[test]
fn what_a_persisted_snapshot_saw_outlives_a_crash_of_the_source() {
    let cluster = pg_harness::Cluster::durable().unwrap();
    let (source, target) = (cluster.create_database().unwrap(), cluster.create_database().unwrap());
    let world = World::between(source, target, (ITEMS, EMPTY), vec![plain("item", &["id", "name"])]).copied();
    // Nobody writes the log to the disk meanwhile but a commit that waits for it: the server's own writer of it stands still.
    let writer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'";
    let writer = world.source.run(writer).unwrap();
    assert!(std::process::Command::new("kill").args(["-STOP", &writer]).status().unwrap().success());
    let mut source = world.source_end();
    session(&world)
        .batch_execute("SET synchronous_commit = off; INSERT INTO item VALUES (9, 'hasty')")
        .unwrap();
    let seen = source.begin(&world.stream, None).unwrap();
    source.persist_snapshot().unwrap();
    cluster.restart(pg_harness::Mode::Immediate).unwrap();
    assert_eq!(world.source.run("SELECT name FROM item WHERE id = 9").unwrap(), "hasty");
    // The connection is gone, which is worth another try; the next one is of the same server.
    assert_eq!(source.end().unwrap_err().exit_code(), 4);
    let mut again = world.source_end();
    let now = again.begin(&world.stream, None).unwrap();
    assert!(again.covers(&now, &seen).unwrap());
    again.end().unwrap();
    assert_eq!(world.follow().keys, 1);
    world.assert_same(ALL, ALL);
}
