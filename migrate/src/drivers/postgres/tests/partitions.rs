//! Unique indexes and exclusion constraints that only a partition of the target has.
//!
//! Invariant: the target's indexes allow every state of the source, so whatever cannot be followed is the engine's fault.

use super::world::{World, plain};
use crate::engine::{Mapping, Phase, Target as _};

const SOURCE: &str =
    "CREATE TABLE item (id int, kind text, name text, during int4range, PRIMARY KEY (id, kind));
    INSERT INTO item SELECT i, CASE WHEN i <= 10 THEN 'a' ELSE 'b' END, 'n' || i, int4range(i, i + 1) \
      FROM generate_series(1, 30) i";
const PARTITIONED: &str = "CREATE TABLE item (id int, kind text, name text, during int4range, note text, \
      PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
    CREATE TABLE item_a PARTITION OF item FOR VALUES IN ('a');
    CREATE TABLE item_rest PARTITION OF item DEFAULT PARTITION BY HASH (id);
    CREATE TABLE item_0 PARTITION OF item_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE item_1 (LIKE item); ALTER TABLE item_1 DROP note, ADD note text;
    ALTER TABLE item_rest ATTACH PARTITION item_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1)";
const ALL: &str = "SELECT id, kind, name, during FROM item";

fn mapping() -> Mapping {
    let mut mapping = plain("item", &["id", "kind", "name", "during"]);
    mapping.key = vec!["id".into(), "kind".into()];
    (mapping.carries, mapping.root_key) = (mapping.key.clone(), mapping.key.clone());
    mapping.select = mapping.select.replace("{keys id}", "{keys id, kind}");
    mapping
}

fn world(indexes: &str) -> World {
    World::new(SOURCE, &format!("{PARTITIONED}; {indexes}"), vec![mapping()])
}

/// Follows what these statements do, in pieces of three keys, with every other key changed as well.
#[track_caller]
fn assert_followed(world: &World, statements: &str) {
    world.source.run(&format!("UPDATE item SET name = name || '.'; {statements}")).unwrap();
    world.follow();
    world.assert_same(ALL, ALL);
}

#[test]
fn a_value_unique_in_one_partition_swaps_and_moves_between_pieces() {
    let world = world("CREATE UNIQUE INDEX ON item_a (name)").copied();
    world.target.run("UPDATE item SET note = 'own'").unwrap();
    assert_followed(
        &world,
        "UPDATE item SET name = 't' WHERE id = 1; UPDATE item SET name = 'n1' WHERE id = 9; \
         UPDATE item SET name = 'n9' WHERE id = 1; UPDATE item SET name = 'n5' WHERE id > 10",
    );
    assert_eq!(world.target.run("SELECT count(*) FROM item WHERE note = 'own'").unwrap(), "30");
}

#[test]
fn partial_and_expression_indexes_of_partitions_below_partitions_are_seen_through() {
    let each = |partition: &str| {
        format!("CREATE UNIQUE INDEX ON {partition} (lower(name)) WHERE id > 0 AND length(name) < 9")
    };
    let world = world(&[each("item_a"), each("item_0"), each("item_1")].join("; ")).copied();
    let everything_moves_on = "UPDATE item SET name = upper('n' || id % 30 + 1) || '.' WHERE id > 0";
    assert_followed(&world, everything_moves_on);
}

#[test]
fn an_index_that_waits_for_its_partitions_counts_where_it_stands() {
    let world = world(
        "CREATE UNIQUE INDEX whole ON ONLY item (name, kind); CREATE UNIQUE INDEX part ON item_a (name, kind); \
         ALTER INDEX whole ATTACH PARTITION part",
    )
    .copied();
    assert_followed(&world, "UPDATE item SET name = 'n' || (id + 1) WHERE id < 10");
}

#[test]
fn rows_that_move_between_partitions_leave_and_take_their_values() {
    let world = world("CREATE UNIQUE INDEX ON item_a (name); CREATE UNIQUE INDEX ON item_0 (name)").copied();
    assert_followed(
        &world,
        "UPDATE item SET kind = 'b' WHERE id <= 5; UPDATE item SET name = 'n1' WHERE id = 10; \
         UPDATE item SET kind = 'a', name = 'n2' WHERE id = 30; UPDATE item SET name = 'n30' WHERE id = 3",
    );
}

#[test]
fn exclusion_constraints_of_partitions_are_followed_whenever_they_are_checked() {
    for checked in ["NOT DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED"] {
        let world = world(&format!(
            "ALTER TABLE item_a ADD CONSTRAINT apart EXCLUDE USING gist (during WITH &&) {checked}"
        ))
        .copied();
        assert_followed(&world, "UPDATE item SET during = int4range(20 - id, 21 - id)");
        world
            .target
            .run("INSERT INTO item VALUES (100, 'a', '', '[90,95)'), (101, 'b', '', '[90,95)')")
            .unwrap();
        world.source.run("UPDATE item SET during = '[94,99)' WHERE id IN (5, 15)").unwrap();
        let error = world.try_follow().unwrap_err();
        assert!(error.exit_code() == 3 && error.to_string().contains("apart"), "{error}");
    }
}

#[test]
fn values_that_move_while_a_partitioned_table_is_loaded_are_brought_by_chunks_beside_catch_up() {
    let mut world = world("CREATE UNIQUE INDEX ON item_a (name)");
    world.begin(Phase::Loading).unwrap();
    world.behind_first_read(|writer| {
        writer
            .batch_execute(
                "UPDATE item SET name = 'freed' WHERE id = 1; UPDATE item SET name = 'n1' WHERE id = 10",
            )
            .unwrap();
    });
    world.copy();
    world.target_end().finish_loading(&world.stream).unwrap();
    let left = world.target_end().chunks_left(&world.stream).unwrap();
    assert!(!left.done, "{left:?}");
    world.follow();
    world.copy();
    world.assert_same(ALL, ALL);
}
