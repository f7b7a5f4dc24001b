//! What becomes of a stream when somebody alters its tables, or capture itself.

use super::*;

#[test]
fn a_source_whose_readers_would_lock_its_writers_out_is_refused() {
    let ends = Ends::items();
    ends.write("PRAGMA journal_mode = delete");
    assert!(refusal(ends.driver.source()).contains("journal mode delete"));
}

#[test]
fn a_table_rebuilt_under_capture_stops_catch_up_and_is_named() {
    let ends = Ends::items();
    ends.start(Phase::Following).unwrap();
    ends.write("CREATE TABLE other (id INTEGER PRIMARY KEY, code TEXT UNIQUE, amount)");
    ends.follow().unwrap();
    ends.write("DROP TABLE item; ALTER TABLE other RENAME TO item");
    let said = refusal(ends.follow());
    assert!(said.contains("table item") && said.contains("migrate capture install"), "{said}");
}

#[test]
fn indexes_come_and_go_but_a_new_unique_one_may_have_displaced_rows_unlogged() {
    let ends = Ends::items();
    ends.write("CREATE UNIQUE INDEX pair ON item (code, amount)");
    ends.start(Phase::Following).unwrap();
    ends.write("CREATE INDEX plain ON item (amount); DROP INDEX pair; INSERT INTO item VALUES (1, 'a', 1)");
    ends.follow().unwrap();
    ends.driver.source().unwrap().install_capture(&ends.stream).unwrap();
    ends.write("DROP INDEX plain; REPLACE INTO item VALUES (2, 'a', 2)");
    ends.follow().unwrap();
    assert_eq!(ends.things(), "2a2own");
    ends.write("CREATE UNIQUE INDEX amounts ON item (amount)");
    let said = refusal(ends.follow());
    assert!(said.contains("new unique index") && said.contains("migrate capture install"), "{said}");
}

#[test]
fn capture_that_had_to_be_brought_back_voids_what_was_stored() {
    let ends = Ends::items();
    ends.start(Phase::Following).unwrap();
    ends.driver.source().unwrap().install_capture(&ends.stream).unwrap();
    ends.follow().unwrap();
    ends.write("DROP TRIGGER \"banyan:items:item:delete\"");
    ends.driver.source().unwrap().install_capture(&ends.stream).unwrap();
    assert!(refusal(ends.follow()).contains("another log"));
}

#[test]
fn another_streams_capture_of_a_table_comes_and_goes_without_concern_to_the_first() {
    let ends = Ends::items();
    let mut wider = item_to_thing();
    wider.root_key = names(&["id", "code"]);
    let other = Stream { name: "others".to_owned(), mappings: vec![wider], forward: Vec::new() };
    let mut source = ends.driver.source().unwrap();
    ends.start(Phase::Following).unwrap();
    let followed = |written: &str, expected: &str| {
        ends.write(written);
        ends.follow().unwrap();
        assert_eq!(ends.things(), expected);
    };
    source.install_capture(&other).unwrap();
    followed("REPLACE INTO item VALUES (1, 'a', 1)", "1a1own");
    source.begin(&other, None).unwrap();
    let fingerprint = source.fingerprint(&other).unwrap();
    source.end().unwrap();
    source.remove_capture(&other).unwrap();
    followed("REPLACE INTO item VALUES (2, 'a', 2)", "2a2own");
    source.install_capture(&other).unwrap();
    source.remove_capture(&ends.stream).unwrap();
    source.begin(&other, Some(&fingerprint)).unwrap();
}
