//! Capture and snapshots.

use super::world::{World, same, stream};
use crate::engine::{Rows as _, Source as _, Touched};

const ITEM: &str = "CREATE TABLE item (id bigint PRIMARY KEY, name text)";

#[test]
fn a_change_that_commits_late_is_dirty_once_it_is_seen() {
    let world = World::new(ITEM, ITEM);
    let stream = stream(vec![same("item", &["id", "name"])]);
    let mapping = &stream.mappings[0];
    let mut source = world.open_source();
    source.install_capture(&stream).unwrap();
    source.install_capture(&stream).unwrap();
    let mut late = postgres::Client::connect(world.source.url(), postgres::NoTls).unwrap();
    late.batch_execute("BEGIN; SAVEPOINT a; INSERT INTO item VALUES (1, 'late')").unwrap();
    let prepared = world.source.name();
    late.batch_execute("RELEASE a").unwrap();
    world
        .source
        .run(&format!("BEGIN; INSERT INTO item VALUES (4, 'twice'); PREPARE TRANSACTION '{prepared}'"))
        .unwrap();
    world.source.run("INSERT INTO item VALUES (2, 'early')").unwrap();
    let first = source.begin(&stream, None).unwrap();
    let fingerprint = source.fingerprint(&stream).unwrap();
    source.persist_snapshot().unwrap();
    source.end().unwrap();
    late.batch_execute("COMMIT").unwrap();
    world.source.run(&format!("COMMIT PREPARED '{prepared}'")).unwrap();
    world.source.run("UPDATE item SET id = 3 WHERE id = 2").unwrap();
    let second = source.begin(&stream, Some(&fingerprint)).unwrap();
    assert!(source.covers(&second, &first).unwrap() && !source.covers(&first, &second).unwrap());
    let dirty = source.stage_dirty(mapping, &first).unwrap();
    assert_eq!((dirty.keys, dirty.whole), (4, false));
    let batch = source.piece(mapping, 0, 10).unwrap().unwrap();
    assert_eq!((batch.keys.len(), batch.rows.len()), (4, 3));
    assert!(source.piece(mapping, 10, 10).unwrap().is_none());
    source.end().unwrap();
    let Touched::Keys(keys) = source.touched(mapping, &second, &first).unwrap() else { panic!("not whole") };
    assert_eq!(keys.len(), 4);
    assert_eq!(source.prune(&stream, &[second.clone(), first]).unwrap(), 1);
    world.source.run("TRUNCATE item").unwrap();
    source.begin(&stream, Some(&fingerprint)).unwrap();
    assert!(source.stage_dirty(mapping, &second).unwrap().whole);
}

#[test]
fn a_dropped_trigger_and_an_altered_table_are_refused_with_what_happened() {
    let world = World::new(ITEM, ITEM);
    let stream = stream(vec![same("item", &["id", "name"])]);
    let mut source = world.open_source();
    source.install_capture(&stream).unwrap();
    source.begin(&stream, None).unwrap();
    let fingerprint = source.fingerprint(&stream).unwrap();
    source.end().unwrap();
    world.source.run("ALTER TABLE item ADD COLUMN colour text").unwrap();
    let refusal = source.begin(&stream, Some(&fingerprint)).unwrap_err();
    assert!(refusal.exit_code() == 3 && refusal.to_string().contains("colour"), "{refusal}");
    world.source.run("ALTER TABLE item DROP COLUMN colour; ALTER TABLE item DISABLE TRIGGER ALL; ALTER TABLE item ENABLE TRIGGER ALL").unwrap();
    let refusal = source.begin(&stream, Some(&fingerprint)).unwrap_err();
    assert!(refusal.to_string().contains("trigger"), "{refusal}");
    assert!(!source.capture_state(&stream).unwrap().faults.is_empty());
    source.remove_capture(&stream).unwrap();
    assert!(!source.capture_state(&stream).unwrap().installed);
}

#[test]
fn a_key_that_may_be_null_or_double_and_a_view_are_refused() {
    let world = World::new(
        "CREATE TABLE loose (id bigint, name text); CREATE TABLE doubled (id bigint NOT NULL, name text); \
         CREATE VIEW seen AS SELECT * FROM loose",
        "SELECT 1",
    );
    let mut source = world.open_source();
    for (table, words) in [("loose", "may be NULL"), ("doubled", "no unique index"), ("seen", "a view")] {
        let refusal = source.install_capture(&stream(vec![same(table, &["id", "name"])])).unwrap_err();
        assert!(refusal.exit_code() == 3 && refusal.to_string().contains(words), "{refusal}");
    }
}
