//! Every kind of unique index that the target may have.
//!
//! Invariant: the target's indexes allow every state of the source but where a test says otherwise, so whatever cannot be
//! followed is the engine's fault.

use super::world::{World, plain};
use crate::engine::{Phase, Target as _};

const PEOPLE: &str = "CREATE TABLE person (id int PRIMARY KEY, email text UNIQUE, age int);
    INSERT INTO person SELECT i, 'p' || i, i FROM generate_series(1, 9) i";
const ALL: &str = "SELECT id, email, age FROM person";
const NONDETERMINISTIC: &str =
    "CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";

fn world(there: &str) -> World {
    World::new(PEOPLE, there, vec![plain("person", &["id", "email", "age"])])
}

/// Follows what these statements do, in pieces of three keys, with every other key changed as well.
#[track_caller]
fn assert_followed(world: &World, statements: &str) {
    world.source.run(&format!("UPDATE person SET age = age + 1; {statements}")).unwrap();
    world.follow();
    world.assert_same(ALL, ALL);
}

/// Follows values that change places between pieces and within one, to others that the target holds equal.
#[track_caller]
fn assert_exchanged(there: &str) {
    let world = world(there).copied();
    assert_followed(
        &world,
        "UPDATE person SET email = 't' || id WHERE id IN (1, 2); UPDATE person SET email = 'P1' WHERE id = 9; \
         UPDATE person SET email = 'P2' WHERE id = 3; UPDATE person SET email = 'P9' WHERE id = 1; \
         UPDATE person SET email = 'P3' WHERE id = 2",
    );
}

#[test]
fn values_of_generated_columns_are_followed_whenever_they_are_checked() {
    for checked in ["", "DEFERRABLE INITIALLY DEFERRED"] {
        assert_exchanged(&format!(
            "CREATE TABLE person (id int PRIMARY KEY, note text DEFAULT 'none', age int, email text,
               short varchar(20) GENERATED ALWAYS AS (lower(email) || note) STORED UNIQUE {checked})"
        ));
    }
}

#[test]
fn values_that_a_type_of_a_schema_out_of_sight_holds_equal_are_followed() {
    assert_exchanged(
        "CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
         CREATE TABLE person (id int PRIMARY KEY, email ext.citext UNIQUE, age int)",
    );
}

#[test]
fn values_that_only_the_collation_of_an_index_or_a_column_holds_equal_are_followed() {
    for (column, index) in
        [("", "email COLLATE nd"), ("", "(email || '!') COLLATE nd"), ("COLLATE nd", "email")]
    {
        assert_exchanged(&format!(
            "{NONDETERMINISTIC}; CREATE TABLE person (id int PRIMARY KEY, email text {column}, age int);
             CREATE UNIQUE INDEX ON person ({index})"
        ));
    }
}

#[test]
fn values_beside_columns_that_the_mapping_does_not_fill_are_followed() {
    let world = world(
        "CREATE TABLE person (id int PRIMARY KEY, email text, age int, tenant text DEFAULT 'main', n serial);
         CREATE UNIQUE INDEX ON person (tenant, email) INCLUDE (n)",
    )
    .copied();
    world.target.run("UPDATE person SET tenant = 'other' WHERE id IN (1, 9)").unwrap();
    assert_followed(
        &world,
        "UPDATE person SET email = 't' WHERE id = 1; UPDATE person SET email = 'p1' WHERE id = 9; \
         UPDATE person SET email = 'p9' WHERE id = 1; UPDATE person SET email = 'free' WHERE id = 8; \
         INSERT INTO person VALUES (0, 'p8', 0)",
    );
    assert_eq!(world.target.run("SELECT count(*) FROM person WHERE tenant = 'other'").unwrap(), "2");
}

#[test]
fn nulls_that_an_index_holds_equal_are_followed() {
    let world = world(
        "CREATE TABLE person (id int PRIMARY KEY, email text, age int, kind int DEFAULT 1);
         CREATE UNIQUE INDEX ON person (kind, email) NULLS NOT DISTINCT",
    );
    world.source.run("UPDATE person SET email = NULL WHERE id = 9").unwrap();
    let world = world.copied();
    assert_followed(
        &world,
        "UPDATE person SET email = NULL WHERE id = 1; UPDATE person SET email = 'p1' WHERE id = 9",
    );
}

#[test]
fn values_that_move_while_a_table_is_loaded_leave_no_index_unbuilt() {
    for index in ["(email) NULLS NOT DISTINCT", "(email COLLATE nd)"] {
        let mut world = world(&format!(
            "{NONDETERMINISTIC}; CREATE TABLE person (id int PRIMARY KEY, email text, age int); \
             CREATE UNIQUE INDEX ON person {index}"
        ));
        world.source.run("UPDATE person SET email = NULL WHERE id = 1").unwrap();
        world.begin(Phase::Loading).unwrap();
        world.behind_first_read(|writer| {
            let moved = "UPDATE person SET email = id WHERE id IN (1, 2); UPDATE person SET email = NULL WHERE id = 9; \
                UPDATE person SET email = 'P2' WHERE id = 8";
            writer.batch_execute(moved).unwrap();
        });
        world.copy();
        world.target_end().finish_loading(&world.stream).unwrap();
        world.follow();
        world.copy();
        world.assert_same(ALL, ALL);
    }
}

#[test]
fn two_rows_of_ours_that_want_one_value_are_not_said_to_be_in_the_way_of_somebodys() {
    let world = world("CREATE TABLE person (id int PRIMARY KEY, email text, age int); CREATE UNIQUE INDEX once ON person (lower(email))")
        .copied();
    world.source.run("UPDATE person SET email = 'P9' WHERE id = 1").unwrap();
    let error = world.try_follow().unwrap_err();
    let said = error.to_string();
    assert!(error.exit_code() == 3 && said.contains("once") && said.contains("two rows"), "{said}");
    assert!(said.contains("no row of another key was found") && !said.contains("not ours"), "{said}");
}
