//! What sums, hashes and shown rows tell.
//!
//! Invariant: a difference that a reader could see changes the sum.

use super::world::{World, plain};
use crate::engine::compare::{Cells, CompareSource as _, CompareTarget as _, Part};
use crate::engine::{Bound, KeyRange, Rows as _, Source as _};

const TABLE: &str = "CREATE TABLE item (id int PRIMARY KEY, phone text, n numeric, f float8, c char(4), j json, i interval, b bigint,
    at timestamp, zoned timestamptz, name text, other bigint);";

fn items() -> World {
    let rows = "INSERT INTO item SELECT i, 'phone ' || i, i, i - 4, 'a', '{}', '1 mon', -i, '1999-12-31 23:59:59.999992', \
                '1999-12-31 23:59:59.999992+00', 'name ' || i, i FROM generate_series(1, 20) i";
    let mapping =
        plain("item", &["id", "phone", "n", "f", "c", "j", "i", "b", "at", "zoned", "name", "other"]);
    World::new(&format!("{TABLE}{rows}"), TABLE, vec![mapping]).copied()
}

#[test]
fn every_seeded_difference_changes_the_sum() {
    let world = items();
    assert!(world.sums_agree(0));
    for (change, undo) in [
        (
            "UPDATE item a SET phone = b.phone FROM item b WHERE (a.id, b.id) IN ((1, 2), (2, 1))",
            "UPDATE item a SET phone = b.phone FROM item b WHERE (a.id, b.id) IN ((1, 2), (2, 1))",
        ),
        ("UPDATE item SET n = 3.0 WHERE id = 3", "UPDATE item SET n = 3 WHERE id = 3"),
        ("UPDATE item SET f = '-0' WHERE id = 4", "UPDATE item SET f = 0 WHERE id = 4"),
        ("UPDATE item SET phone = NULL WHERE id = 5", "UPDATE item SET phone = 'phone 5' WHERE id = 5"),
        ("UPDATE item SET j = '{ }' WHERE id = 6", "UPDATE item SET j = '{}' WHERE id = 6"),
        ("UPDATE item SET i = '30 days' WHERE id = 7", "UPDATE item SET i = '1 mon' WHERE id = 7"),
        // A whole number that was once read without its sign.
        ("UPDATE item SET b = 4294967288 WHERE id = 8", "UPDATE item SET b = -8 WHERE id = 8"),
        // Eight microseconds before the year 2000, and the same bits behind it.
        (
            "UPDATE item SET at = '2000-01-01 01:11:34.967288' WHERE id = 9",
            "UPDATE item SET at = '1999-12-31 23:59:59.999992' WHERE id = 9",
        ),
        (
            "UPDATE item SET zoned = '2000-01-01 01:11:34.967288+00' WHERE id = 9",
            "UPDATE item SET zoned = '1999-12-31 23:59:59.999992+00' WHERE id = 9",
        ),
        // Values exchanged between two columns of one row.
        (
            "UPDATE item SET phone = name, name = phone WHERE id = 10",
            "UPDATE item SET phone = name, name = phone WHERE id = 10",
        ),
        (
            "UPDATE item SET b = other, other = b WHERE id = 11",
            "UPDATE item SET b = other, other = b WHERE id = 11",
        ),
        ("UPDATE item SET n = -12 WHERE id = 12", "UPDATE item SET n = 12 WHERE id = 12"),
        ("INSERT INTO item VALUES (99)", "DELETE FROM item WHERE id = 99"),
    ] {
        world.target.run(change).unwrap();
        assert!(!world.sums_agree(0), "{change}");
        world.target.run(undo).unwrap();
        assert!(world.sums_agree(0), "{undo}");
    }
}

#[test]
fn values_exchanged_between_two_rows_of_one_part_change_its_sum() {
    let world = items();
    let (mapping, whole) = (&world.stream.mappings[0], Part::Range(KeyRange::default()));
    let mut target = world.target_end();
    let mut sum = || {
        target.snapshot(&world.stream).unwrap().unwrap();
        let sum = target.sum(mapping, &whole).unwrap();
        target.end_snapshot().unwrap();
        sum
    };
    let mut before = sum();
    // A hash that is linear in the columns misses two exchanges of three.
    for one in (1..20).step_by(2) {
        let pairs = format!("({one}, {other}), ({other}, {one})", other = one + 1);
        let swap = "UPDATE item a SET phone = b.phone FROM item b WHERE (a.id, b.id) IN";
        world.target.run(&format!("{swap} ({pairs})")).unwrap();
        let after = sum();
        assert_ne!(before, after, "{one}");
        before = after;
    }
}

#[test]
fn parts_of_whole_numbers_hold_no_more_keys_than_asked_for_and_go_over_gaps() {
    // Dense, a gap, sparse, and the greatest number there is.
    let keys = "SELECT i FROM generate_series(-500, 500) i UNION ALL SELECT i FROM generate_series(900000, 900400) i \
                UNION ALL SELECT i * 1000 FROM generate_series(1000, 1300) i UNION ALL VALUES (9223372036854775807)";
    // `n` is a name that the driver's own SQL uses, too.
    let table = "CREATE TABLE wide_apart (id bigint PRIMARY KEY, n bigint);";
    let source = format!("{table} INSERT INTO wide_apart SELECT i, i FROM ({keys}) k(i)");
    let world = World::new(&source, table, vec![plain("wide_apart", &["id", "n"])]).copied();
    let mapping = &world.stream.mappings[0];
    let mut source = world.source_end();
    source.begin(&world.stream, None).unwrap();
    let (mut parts, mut after) = (Vec::new(), None);
    loop {
        let up_to = source.part_end(mapping, after.as_ref(), 100).unwrap();
        let part = Part::Range(KeyRange { after, up_to: up_to.clone() });
        parts.push(source.sum(mapping, &part).unwrap().rows);
        after = up_to;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(parts.iter().sum::<u64>(), 1001 + 401 + 301 + 1);
    assert!(parts.iter().all(|rows| *rows <= 100), "{parts:?}");
    assert!(parts.len() <= 17 + 4, "a gap or sparse keys make many small parts: {parts:?}");
}

#[test]
fn ranges_and_buckets_hold_each_row_once() {
    let world = items();
    let mapping = &world.stream.mappings[0];
    let mut source = world.source_end();
    source.begin(&world.stream, None).unwrap();
    assert!(source.orders_alike(mapping).unwrap());
    let middle = source.range_end(mapping, &KeyRange::default(), 8).unwrap().unwrap();
    assert_eq!(middle, Bound("[\"8\"]".into()));
    let mut target = world.target_end();
    target.snapshot(&world.stream).unwrap().unwrap();
    let low = Part::Range(KeyRange { after: None, up_to: Some(middle.clone()) });
    let high = Part::Range(KeyRange { after: Some(middle), up_to: None });
    for (part, rows) in [(low, 8), (high, 12)] {
        let sums = (source.sum(mapping, &part).unwrap(), target.sum(mapping, &part).unwrap());
        assert_eq!(sums.0, sums.1);
        assert_eq!(sums.0.rows, rows);
        assert_eq!(source.row_hashes(mapping, &part).unwrap().len() as u64, rows);
    }
    let rows = (0..4).map(|index| target.sum(mapping, &Part::Bucket { index, of: 4 }).unwrap().rows);
    assert_eq!(rows.sum::<u64>(), 20);
}

#[test]
fn rows_are_shown_with_what_distinguishes_them() {
    let world = items();
    let mapping = &world.stream.mappings[0];
    let key = [Bound("[\"3\"]".into())];
    let (mut source, mut target) = (world.source_end(), world.target_end());
    source.begin(&world.stream, None).unwrap();
    let (one, other) = (source.show(mapping, &key).unwrap(), target.show(mapping, &key, Cells::Cut).unwrap());
    assert_eq!(one, other);
    assert_eq!(one[0].values[4].as_deref(), Some("a   "));
    assert_eq!(target.rows_without_key(mapping, 9).unwrap().0, 0);
    assert_eq!(source.keys(mapping, &key).unwrap().len(), 1);
}

#[test]
fn dirty_keys_are_known_by_bound() {
    let world = items();
    let mapping = &world.stream.mappings[0];
    let mut source = world.source_end();
    let before = source.begin(&world.stream, None).unwrap();
    source.end().unwrap();
    world.source.run("UPDATE item SET n = 0 WHERE id IN (4, 5, 6)").unwrap();
    source.begin(&world.stream, None).unwrap();
    let keys = |ids: &[u32]| ids.iter().map(|id| Bound(format!("[\"{id}\"]"))).collect::<Vec<_>>();
    assert_eq!(source.dirty_among(mapping, &before, &keys(&[1, 4])).unwrap(), keys(&[4]));
    let first = source.dirty_keys(mapping, &before, None, 2).unwrap().unwrap();
    assert_eq!(first, keys(&[4, 5]));
    assert_eq!(source.dirty_keys(mapping, &before, first.last(), 2).unwrap().unwrap(), keys(&[6]));
}

#[test]
fn holds_are_kept_while_a_snapshot_is_open_and_end() {
    use crate::engine::Target as _;
    let world = items();
    let mut target = world.target_end();
    let row = target.snapshot(&world.stream).unwrap().unwrap();
    target.hold("things", "verify", &row.pos, 60).unwrap();
    assert_eq!(world.target_end().needed_positions("things").unwrap().len(), 2);
    target.end_snapshot().unwrap();
    target.drop_hold("things", "verify").unwrap();
    assert_eq!(target.needed_positions("things").unwrap().len(), 1);
}
