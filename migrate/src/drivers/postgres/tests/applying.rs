//! What a batch may change at the target, and what it must leave.
//!
//! Invariant: each test follows one batch and looks at the rows that the mapping does not fill.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::world::{World, plain};
use crate::drivers::postgres::{PostgresDriver, PostgresOptions};
use crate::engine::backfill::{Copier, CopierOptions, Step};
use crate::engine::catch_up::Follower;
use crate::engine::run::{Adopt, Stop, begin};
use crate::engine::{
    Driver as _, Guard, Kept, KeyRange, Outcome, Phase, Position, Source as _, StreamRow, Target as _,
    Touched,
};
use crate::fail_point::FailPoints;

const PEOPLE: &str = "CREATE TABLE person (id int PRIMARY KEY, email text UNIQUE, age int);
    INSERT INTO person SELECT i, 'p' || i, i FROM generate_series(1, 9) i";
const THERE: &str =
    "CREATE TABLE person (id int PRIMARY KEY, email text UNIQUE, age int, note text DEFAULT 'none')";
const ALL: &str = "SELECT id, email, age FROM person";

fn people() -> World {
    let world = World::new(PEOPLE, THERE, vec![plain("person", &["id", "email", "age"])]).copied();
    world.target.run("UPDATE person SET note = 'note of ' || id").unwrap();
    world
}

#[test]
fn unique_values_that_swap_are_exchanged_and_unmapped_columns_stay() {
    let world = people();
    world
        .source
        .run(
            "UPDATE person SET email = 'tmp' WHERE id = 1; UPDATE person SET email = 'p1' WHERE id = 2; \
        UPDATE person SET email = 'p2' WHERE id = 1",
        )
        .unwrap();
    world.follow();
    world.assert_same(ALL, ALL);
    assert_eq!(world.target.run("SELECT count(*) FROM person WHERE note = 'note of ' || id").unwrap(), "9");
}

#[test]
fn a_value_that_moves_to_a_row_of_another_piece_is_fetched_with_its_holder() {
    let world = people();
    // With pieces of three keys, 1 and 9 are apart.
    world
        .source
        .run(
            "UPDATE person SET age = age + 1; UPDATE person SET email = 'freed' WHERE id = 9; \
        UPDATE person SET email = 'p9' WHERE id = 1",
        )
        .unwrap();
    world.follow();
    world.assert_same(ALL, ALL);
}

#[test]
fn a_chain_of_values_that_move_by_one_takes_few_rounds() {
    let mut world = people();
    world.source.run("INSERT INTO person SELECT i, 'p' || i, i FROM generate_series(10, 300) i").unwrap();
    world.follow();
    world.source.run("UPDATE person SET email = 'q' || id; UPDATE person SET email = 'p' || id + 1").unwrap();
    let rounds = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&rounds);
    world.points = FailPoints::watched(move |point| {
        counted.fetch_add(u32::from(point == "catch_up_wider"), Ordering::Relaxed);
    });
    world.follow();
    world.assert_same(ALL, ALL);
    let rounds = rounds.load(Ordering::Relaxed);
    assert!((2..20).contains(&rounds), "pieces of 3 keys, a chain of 300, {rounds} rounds");
}

#[test]
fn a_batch_that_is_told_to_stop_ends_between_two_pieces_and_loses_nothing() {
    let world = people();
    world.source.run("UPDATE person SET age = age + 1").unwrap();
    let stop = Arc::new(Stop::default());
    let told = Arc::clone(&stop);
    let points = FailPoints::watched(move |point| {
        if point == "catch_up_piece" {
            told.stop();
        }
    });
    let follower = Follower::claim(&world.driver, &world.stream, 3, &points).unwrap();
    let caught = follower.heeding(&stop).batch().unwrap();
    assert!(!caught.whole && caught.keys == 3, "{caught:?}");
    assert_eq!(world.follow().keys, 9);
    world.assert_same(ALL, ALL);
}

#[test]
fn bookkeeping_that_somebody_dropped_is_told_with_the_way_to_begin_anew() {
    let world = people();
    world.target.run("DROP SCHEMA banyan CASCADE").unwrap();
    let error = world.try_follow().unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("migrate backfill --again"), "{error}");
}

#[test]
fn a_holder_that_is_nobodys_is_reported_and_nothing_written() {
    let world = people();
    world.target.run("INSERT INTO person VALUES (100, 'taken', 0)").unwrap();
    world.source.run("UPDATE person SET email = 'taken' WHERE id = 5").unwrap();
    let error = world.try_follow().unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("taken"), "{error}");
    assert_eq!(world.target.run("SELECT email FROM person WHERE id = 5").unwrap(), "p5");
}

#[test]
fn a_chunk_that_a_row_of_nobody_blocks_says_so_once_catch_up_has_nothing_left() {
    let world = World::new(PEOPLE, THERE, vec![plain("person", &["id", "email", "age"])]);
    world.begin(Phase::Following).unwrap();
    world.target.run("INSERT INTO person VALUES (100, 'p5', 0, 'theirs')").unwrap();
    world.follow();
    let options = CopierOptions { chunk: 7, lease_seconds: 60 };
    let mut copier = Copier::open(&world.driver, &world.stream, options, &world.points).unwrap();
    let error = copier.step().unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("p5"), "{error}");
}

#[test]
fn a_key_that_becomes_one_its_index_holds_equal_is_written() {
    let table = "CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
        CREATE TABLE thing (id numeric, name text COLLATE nd, n int, PRIMARY KEY (id, name))";
    let filled = format!("{table}; INSERT INTO thing VALUES (1.5, 'a', 1), (2, 'b', 1)");
    let mut mapping = plain("thing", &["id", "name", "n"]);
    mapping.select = mapping.select.replace("{keys id}", "{keys id, name}");
    mapping.key.push("name".to_owned());
    mapping.root_key.push("name".to_owned());
    mapping.carries.push("name".to_owned());
    let world = World::new(&filled, table, vec![mapping]).copied();
    world.source.run("UPDATE thing SET id = 1.50, name = 'A' WHERE name = 'a'").unwrap();
    world.follow();
    let all = "SELECT id::text, name COLLATE \"C\", n FROM thing";
    world.assert_same(all, all);
}

#[test]
fn equal_rows_are_not_written_again() {
    let world = people();
    let place = "SELECT string_agg(ctid::text, ',' ORDER BY id) FROM person";
    let before = world.target.run(place).unwrap();
    world.source.run("UPDATE person SET age = age").unwrap();
    let caught = world.follow();
    assert_eq!((caught.keys, caught.rows), (9, 0));
    assert_eq!(world.target.run(place).unwrap(), before);
}

#[test]
fn triggers_and_foreign_key_actions_of_the_target_stay_off() {
    let target = format!("{THERE}; CREATE TABLE child (person int REFERENCES person ON DELETE CASCADE);
        CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.email := 'loud'; RETURN NEW; END $$;
        CREATE TRIGGER loud BEFORE INSERT OR UPDATE ON person FOR EACH ROW EXECUTE FUNCTION shout()");
    let world = World::new(PEOPLE, &target, vec![plain("person", &["id", "email", "age"])]).copied();
    world.target.run("INSERT INTO child VALUES (3)").unwrap();
    world.source.run("DELETE FROM person WHERE id = 3; UPDATE person SET age = 0 WHERE id = 4").unwrap();
    world.follow();
    world.assert_same(ALL, ALL);
    assert_eq!(world.target.run("SELECT count(*) FROM child").unwrap(), "1");
}

#[test]
fn a_deferrable_unique_constraint_holds_although_its_trigger_does_not_fire() {
    let target =
        "CREATE TABLE person (id int PRIMARY KEY, email text UNIQUE DEFERRABLE INITIALLY DEFERRED, age int)";
    let world = World::new(PEOPLE, target, vec![plain("person", &["id", "email", "age"])]).copied();
    world
        .source
        .run(
            "UPDATE person SET email = 'tmp' WHERE id = 1; UPDATE person SET email = 'p1' WHERE id = 9; \
        UPDATE person SET email = 'p9' WHERE id = 1; UPDATE person SET age = 0",
        )
        .unwrap();
    world.follow();
    world.assert_same(ALL, ALL);
    world.target.run("INSERT INTO person VALUES (100, 'taken', 0)").unwrap();
    world.source.run("UPDATE person SET email = 'taken' WHERE id = 5").unwrap();
    assert_eq!(world.try_follow().unwrap_err().exit_code(), 3);
}

#[test]
fn a_key_that_is_deferrable_is_followed_too() {
    let target = "CREATE TABLE person (id int PRIMARY KEY DEFERRABLE, email text UNIQUE, age int)";
    let world = World::new(PEOPLE, target, vec![plain("person", &["id", "email", "age"])]).copied();
    world.source.run("UPDATE person SET id = id + 1 WHERE id = 9; UPDATE person SET age = 1; INSERT INTO person VALUES (50, 'new', 1)").unwrap();
    world.follow();
    world.assert_same(ALL, ALL);
}

#[test]
fn expression_and_partial_unique_indexes_are_seen_through() {
    let target = "CREATE TABLE person (id int PRIMARY KEY, email text, age int);
        CREATE UNIQUE INDEX ON person (lower(email)) WHERE age > 0";
    let world = World::new(PEOPLE, target, vec![plain("person", &["id", "email", "age"])]).copied();
    world
        .source
        .run(
            "UPDATE person SET age = age + 1; UPDATE person SET email = 'freed' WHERE id = 9; \
        UPDATE person SET email = 'P9' WHERE id = 1",
        )
        .unwrap();
    world.follow();
    world.assert_same(ALL, ALL);
}

#[test]
fn values_that_an_exclusion_constraint_keeps_apart_are_followed_whenever_it_is_checked() {
    for checked in ["", "DEFERRABLE INITIALLY DEFERRED"] {
        let target = format!(
            "CREATE TABLE person (id int PRIMARY KEY, email text, age int,
               CONSTRAINT apart EXCLUDE USING btree (age WITH =) {checked})"
        );
        let world = World::new(PEOPLE, &target, vec![plain("person", &["id", "email", "age"])]).copied();
        world.source.run("UPDATE person SET age = 10 - age").unwrap();
        world.follow();
        world.assert_same(ALL, ALL);
        world.source.run("UPDATE person SET age = 5 WHERE id = 6").unwrap();
        let error = world.try_follow().unwrap_err();
        assert!(error.exit_code() == 3 && error.to_string().contains("apart"), "{error}");
    }
}

#[test]
fn next_stands_still_while_a_chunk_that_has_read_it_is_written() {
    let world = people();
    let (mut source, mut target) = (world.source_end(), world.target_end());
    let position = source.begin(&world.stream, None).unwrap();
    let mapping = &world.stream.mappings[0];
    let batch = source.range(mapping, &KeyRange::default(), u64::MAX).unwrap().unwrap();
    let options = PostgresOptions { lock: std::time::Duration::from_millis(20), ..Default::default() };
    let impatient = PostgresDriver::new(world.source.url(), world.target.url(), options).unwrap();
    let mut follower = impatient.target().unwrap();
    let claim = follower.claim("things").unwrap();
    let mut touched = |_: &Position| {
        assert_eq!(follower.set_next(&claim, &position).unwrap_err().exit_code(), 4);
        Ok(Touched::Keys(Default::default()))
    };
    let guard = Guard::GivingWay { stream: "things", chunk: None, touched: &mut touched };
    assert!(matches!(target.apply(guard, mapping, &batch).unwrap(), Outcome::Written(0)));
    assert!(follower.set_next(&claim, &position).unwrap());
}

#[test]
fn a_chunk_takes_rows_in_its_way_along_if_they_are_of_the_source() {
    let thing = "CREATE TABLE thing (id int PRIMARY KEY, code text UNIQUE, remark text DEFAULT 'own')";
    let world = World::new(thing, thing, vec![plain("thing", &["id", "code"])]);
    world.source.run("INSERT INTO thing VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (9, 'y')").unwrap();
    world.begin(crate::engine::Phase::Following).unwrap();
    world.target.run("INSERT INTO thing VALUES (9, 'x', 'older')").unwrap();
    let options = CopierOptions { chunk: 2, lease_seconds: 60 };
    let mut copier = Copier::open(&world.driver, &world.stream, options, &world.points).unwrap();
    assert_eq!(copier.step().unwrap(), Step::Copied(2));
    let moved = "UPDATE thing SET code = 'x' WHERE id = 1; UPDATE thing SET code = 'a' WHERE id = 3; \
        DELETE FROM thing WHERE id = 2; UPDATE thing SET code = 'b' WHERE id = 4";
    world.source.run(moved).unwrap();
    assert!(matches!(copier.step().unwrap(), Step::Copied(_)));
    let rows = "SELECT string_agg(id || code || remark, ' ' ORDER BY id) FROM thing";
    assert_eq!(world.target.run(rows).unwrap(), "1xown 3aown 4bown 9yolder");
    let rows = "SELECT string_agg(rows::text, ',' ORDER BY chunk) FROM banyan.chunk WHERE done";
    assert_eq!(world.target.run(rows).unwrap(), "2,2", "others' rows are not counted");
}

#[test]
fn pos_moves_only_from_where_it_was_read() {
    let world = people();
    let (mut source, mut target) = (world.source_end(), world.target_end());
    let first = target.stream("things").unwrap().unwrap().pos;
    let second = source.begin(&world.stream, None).unwrap();
    let claim = target.claim("things").unwrap();
    assert_ne!(first, second);
    assert!(!target.set_pos(&claim, &second, &second).unwrap());
    assert_eq!(target.stream("things").unwrap().unwrap().pos, first);
    assert!(target.set_pos(&claim, &first, &second).unwrap());
}

#[test]
fn no_token_of_a_forgotten_stream_is_one_of_the_stream_made_anew() {
    let world = people();
    let mut target = world.target_end();
    let row = target.stream("things").unwrap().unwrap();
    let mut claims = Vec::new();
    for _ in 0..2 {
        claims.extend([target.claim("things").unwrap(), target.claim("things").unwrap()]);
        target.forget_stream(&world.stream, Kept::Nothing).unwrap();
        target.forget_stream(&world.stream, Kept::Nothing).unwrap();
        target.create_stream("things", &StreamRow { token: 0, ..row.clone() }).unwrap();
    }
    let mut source = world.source_end();
    let position = source.begin(&world.stream, None).unwrap();
    let mapping = &world.stream.mappings[0];
    let batch = source.range(mapping, &KeyRange::default(), u64::MAX).unwrap().unwrap();
    for old in &claims {
        assert!(!target.set_next(old, &position).unwrap(), "{old:?}");
        assert!(!target.set_pos(old, &row.pos, &position).unwrap(), "{old:?}");
        let applied = target.apply(Guard::Claim(old), mapping, &batch).unwrap();
        assert!(matches!(applied, Outcome::Superseded), "{old:?}");
    }
    let new = target.claim("things").unwrap();
    assert!(claims.iter().all(|old| old.token < new.token), "{claims:?} {new:?}");
    assert!(target.set_next(&new, &position).unwrap());
}

#[test]
fn adopted_rows_that_the_source_lost_give_their_unique_values_up() {
    let source = "CREATE TABLE item (id int PRIMARY KEY, code text UNIQUE);
        INSERT INTO item VALUES (2, 'a'), (3, 'c'), (12, 'e')";
    let target = "CREATE TABLE item (id int PRIMARY KEY, code text UNIQUE);
        INSERT INTO item VALUES (1, 'a'), (2, 'b'), (5, 'e'), (9, 'z')";
    let mut world = World::new(source, target, vec![plain("item", &["id", "code"])]);
    world.chunk = 2;
    world.source_end().install_capture(&world.stream).unwrap();
    begin(&world.driver, &world.stream, Adopt::Rows, &world.points).unwrap();
    world.copy();
    world.assert_same("SELECT * FROM item", "SELECT * FROM item WHERE id <> 9");
    world.source.run("UPDATE item SET code = 'z' WHERE id = 3").unwrap();
    world.follow();
    world.assert_same("SELECT * FROM item", "SELECT * FROM item");
}

#[test]
fn values_that_all_moved_by_one_since_the_older_copy_are_taken_along() {
    let people = |code: &str| {
        format!(
            "{PEOPLE}; DELETE FROM person; INSERT INTO person SELECT i, 'p' || {code}, i FROM generate_series(1, 300) i"
        )
    };
    let mapping = plain("person", &["id", "email", "age"]);
    let world = World::new(&people("i + 1"), &people("i"), vec![mapping]);
    world.source_end().install_capture(&world.stream).unwrap();
    begin(&world.driver, &world.stream, Adopt::Rows, &world.points).unwrap();
    world.copy();
    world.assert_same(ALL, ALL);
}
