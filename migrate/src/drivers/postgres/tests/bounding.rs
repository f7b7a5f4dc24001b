//! A log that nobody catches up with.
//!
//! Invariant: it stops growing before the disk is full, its application never notices, and nobody takes what went unlogged
//! for what did not happen.

use super::world::{World, plain};
use crate::drivers::postgres::capture::log_name;
use crate::engine::{Driver as _, Source as _};

const TABLE: &str = "CREATE TABLE item (id int PRIMARY KEY, name text)";
const ALL: &str = "SELECT * FROM item";
const BOUND: u64 = 100;

fn items() -> World {
    World::new(TABLE, TABLE, vec![plain("item", &["id", "name"])]).copied()
}

/// Each in a transaction of its own.
fn write(world: &World, ids: std::ops::Range<u32>) {
    let mut application = postgres::Client::connect(world.source.url(), postgres::NoTls).unwrap();
    for id in ids {
        application.execute("INSERT INTO item VALUES ($1, 'a')", &[&id.cast_signed()]).unwrap();
    }
}

fn logged(world: &World) -> u64 {
    let log = log_name(&world.stream.name, "item");
    world.source.run(&format!("SELECT count(*) FROM {log}")).unwrap().parse().unwrap()
}

#[test]
fn a_full_log_ends_capture_and_the_copy_is_refused_until_it_begins_anew() {
    let world = items();
    let mut source = world.source_end();
    source.begin(&world.stream, None).unwrap();
    let fingerprint = source.fingerprint(&world.stream).unwrap();
    source.end().unwrap();
    source.bound_log(&world.stream, BOUND).unwrap();
    write(&world, 0..300);
    let rows = logged(&world);
    assert!((1..BOUND).contains(&rows), "a log of {rows} rows");
    let faults = source.capture_state(&world.stream).unwrap().faults;
    assert!(faults.len() == 1 && faults[0].contains("run.max_log_rows"), "{faults:?}");
    let error = world.try_follow().unwrap_err();
    let said = error.to_string();
    assert_eq!(error.exit_code(), 3, "{said}");
    assert!(said.contains("run.max_log_rows") && said.contains("capture install"), "{said}");
    source.install_capture(&world.stream).unwrap();
    assert!(source.capture_state(&world.stream).unwrap().faults.is_empty());
    assert_eq!(logged(&world), 0);
    // The gap stays known.
    assert_eq!(source.begin(&world.stream, Some(&fingerprint)).unwrap_err().exit_code(), 3);
    write(&world, 300..301);
    assert_eq!(logged(&world), 1);
}

#[test]
fn a_log_that_is_followed_goes_on_for_ever() {
    let world = items();
    let mut source = world.source_end();
    source.bound_log(&world.stream, BOUND * 1_000).unwrap();
    write(&world, 0..300);
    assert_eq!(logged(&world), 300);
    world.follow();
    world.assert_same(ALL, ALL);
}

#[test]
fn a_transaction_that_ends_capture_and_is_undone_has_not_ended_it() {
    let world = items();
    world.source_end().bound_log(&world.stream, 1).unwrap();
    let mut application = postgres::Client::connect(world.source.url(), postgres::NoTls).unwrap();
    let closed = "SELECT count(*) FROM pg_proc WHERE prosrc LIKE '%the log is full%' AND proname ~ '^(new|changed|old|cleared)_'";
    let mut tries = 0;
    let ended = loop {
        let mut one = application.transaction().unwrap();
        one.batch_execute("INSERT INTO item VALUES (1, 'a')").unwrap();
        if one.query_one(closed, &[]).unwrap().get::<_, i64>(0) > 0 {
            break one.rollback();
        }
        one.rollback().unwrap();
        tries += 1;
        assert!(tries < 1_000, "no transaction looked how large the log is");
    };
    ended.unwrap();
    application.batch_execute("TRUNCATE item").unwrap();
    assert_eq!(application.query_one(closed, &[]).unwrap().get::<_, i64>(0), 0);
    assert_eq!(world.driver.source().unwrap().capture_state(&world.stream).unwrap().faults, [""; 0]);
    assert_eq!(logged(&world), 1);
}

#[test]
fn triggers_that_called_another_function_for_a_while_void_what_was_stored() {
    let world = items();
    let mut source = world.source_end();
    let function = world.source.run("SELECT proname FROM pg_proc WHERE proname LIKE 'new\\_%'").unwrap();
    let other = "RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'";
    world.source.run(&format!("CREATE OR REPLACE FUNCTION banyan.{function}() {other}")).unwrap();
    write(&world, 0..1);
    source.install_capture(&world.stream).unwrap();
    assert_eq!(world.try_follow().unwrap_err().exit_code(), 3);
}
