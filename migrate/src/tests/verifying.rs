//! Facts about the comparison.
//!
//! Invariant: every corruption that is seeded here is found, with its table, key and columns.

use crate::tests::world::World;
use crate::verify::{Kind, Report};

/// Corrupts the copy by SQL and compares.
fn after(corruption: &str) -> Report {
    let world = World::copied(30);
    world.target.execute_batch(corruption).unwrap();
    world.verify()
}

#[test]
fn every_kind_of_corruption_is_found_once() {
    let cases = [
        ("UPDATE person SET given_name = 'Bnn' WHERE person_id = 7", Kind::Differs, "person", "given_name"),
        ("UPDATE person SET family_name = NULL WHERE person_id = 7", Kind::Differs, "person", "family_name"),
        (
            "UPDATE person SET changed_ms = changed_ms + 1 WHERE person_id = 7",
            Kind::Differs,
            "person",
            "changed_ms",
        ),
        ("UPDATE person SET row_version = 8 WHERE person_id = 7", Kind::Differs, "person", "row_version"),
        ("DELETE FROM contact WHERE person_id = 7 AND kind = 'email'", Kind::Missing, "contact", ""),
        ("DELETE FROM person WHERE person_id = 7", Kind::Missing, "person", ""),
        ("INSERT INTO address VALUES (7, 9, 'x', NULL, NULL, NULL, 'y')", Kind::Extra, "address", ""),
        ("INSERT INTO contact VALUES (7, 'phone', '1')", Kind::Extra, "contact", ""),
        ("INSERT INTO contact VALUES (99, 'phone', '1')", Kind::Extra, "contact", ""),
        ("INSERT INTO person VALUES (0, 'x', NULL, 0, 0, 1)", Kind::Extra, "person", ""),
    ];
    for (corruption, kind, table, column) in cases {
        let report = after(corruption);
        assert_eq!(report.differences(), 1, "{corruption}: {report:#?}");
        let found = &report.listed[0];
        assert_eq!((found.kind, found.table.as_str()), (kind, table), "{corruption}");
        let columns: Vec<&str> = found.columns.iter().map(|column| column.column.as_str()).collect();
        assert_eq!(columns.join(" "), column, "{corruption}");
    }
}

#[test]
fn values_exchanged_between_rows_are_found() {
    let report = after(
        "UPDATE contact SET value = CASE person_id WHEN 2 THEN '+44 4' ELSE '+44 2' END \
         WHERE kind = 'phone' AND person_id IN (2, 4)",
    );
    assert_eq!(report.differs, 2, "{report:#?}");
    assert_eq!(report.listed[0].columns[0].monolith, "\"+44 2\"");
    assert_eq!(report.listed[0].columns[0].service, "\"+44 4\"");
}

#[test]
fn addresses_in_another_order_are_found() {
    let report = after(
        "UPDATE address SET position = 7 WHERE person_id = 2 AND position = 0;
         UPDATE address SET position = 0 WHERE person_id = 2 AND position = 1;
         UPDATE address SET position = 1 WHERE person_id = 2 AND position = 7",
    );
    assert_eq!(report.differs, 2, "{report:#?}");
}

#[test]
fn a_value_of_another_storage_class_is_found() {
    let world = World::copied(3);
    world.source.execute_batch("UPDATE users_users SET addresses = ' [ ] ' WHERE addresses = '[]'").unwrap();
    assert!(world.verify().clean(), "blanks in JSON are no difference");
    world.source.execute_batch("UPDATE users_users SET addresses = '[{}]' WHERE id = 3").unwrap();
    assert!(!world.verify().clean());
}

#[test]
fn a_mapping_that_loses_something_is_found_by_the_way_back() {
    let world = World::new();
    world
        .source
        .execute_batch(
            "INSERT INTO users_users (name, email, addresses, created_at, updated_at, version) \
         VALUES ('Ann', 'a@example.com', '[]', '2010-12-01T08:26:00.1Z', '2010-12-01T08:26:00.000Z', 1)",
        )
        .unwrap();
    world.dual_write(true);
    world.backfill(crate::backfill::BackfillOptions::default());
    let report = world.verify();
    assert_eq!(report.differences(), 1, "{report:#?}");
    assert_eq!(report.listed[0].table, "users_users");
    assert_eq!(report.listed[0].columns[0].column, "created_at");
}

#[test]
fn what_still_waits_to_be_delivered_is_moving_and_not_wrong() {
    let world = World::copied(10);
    world.set_email(4, "new@example.com");
    let report = world.verify();
    assert_eq!((report.differences(), report.moving), (0, 1), "{report:#?}");
    assert!(!report.clean());
    world.deliver_all();
    assert!(world.verify().clean());
}

#[test]
fn all_differences_are_counted_and_the_first_listed() {
    let report = after("UPDATE person SET given_name = given_name || '!'");
    assert_eq!(report.differs, 30);
    assert_eq!(report.listed.len(), 20);
}

#[test]
fn a_million_is_not_needed_to_cross_chunks() {
    let world = World::copied(30);
    world.target.execute_batch("DELETE FROM person WHERE person_id IN (10, 11, 30)").unwrap();
    let options = crate::verify::VerifyOptions { chunk_rows: 10, ..Default::default() };
    let report = crate::verify::run(&world.extraction, options, &mut crate::meter::Meter::silent()).unwrap();
    assert_eq!(report.missing, 3);
    assert!(!world.extraction.store.verification("users").unwrap().unwrap().clean);
}
