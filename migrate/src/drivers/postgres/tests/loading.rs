//! Loading: what is dropped comes back as it was.
//!
//! Invariant: the catalogue's own words for indexes and constraints are the same before and after.

use super::world::{World, plain};
use crate::engine::{Phase, Target as _};
use crate::fail_point::FailPoints;

const ITEMS: &str = "CREATE TABLE owner (id int PRIMARY KEY); CREATE TABLE item (id int PRIMARY KEY, owner int, name text);
    INSERT INTO owner SELECT generate_series(1, 30); INSERT INTO item SELECT i, i, 'n' || i FROM generate_series(1, 30) i";
const INDEXED: &str = "CREATE TABLE owner (id int PRIMARY KEY);
    CREATE TABLE item (id int, owner int, name text, CONSTRAINT \"Item key\" PRIMARY KEY (id) INCLUDE (name),
      CONSTRAINT owned FOREIGN KEY (owner) REFERENCES owner ON DELETE CASCADE, UNIQUE (name, id) DEFERRABLE INITIALLY DEFERRED);
    CREATE INDEX \"odd Name\" ON item (lower(name) text_pattern_ops) WHERE id > 3; CREATE UNIQUE INDEX u ON item (name)";
const VALIDATED: &str = "SELECT bool_and(convalidated) FROM pg_constraint WHERE conname = 'owned'";
const SHAPE: &str = "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN ('item'::regclass, 'owner'::regclass) \
    UNION ALL SELECT conname || pg_get_constraintdef(oid) || convalidated FROM pg_constraint \
      WHERE conrelid IN ('item'::regclass, 'owner'::regclass) ORDER BY 1";

fn world() -> World {
    World::new(ITEMS, INDEXED, vec![plain("owner", &["id"]), plain("item", &["id", "owner", "name"])])
}

#[test]
fn indexes_and_constraints_stand_again_after_loading() {
    let world = world();
    let before = world.target.run(SHAPE).unwrap();
    world.begin(Phase::Loading).unwrap();
    world.target_end().begin_loading(&world.stream).unwrap();
    assert_eq!(world.target.run(SHAPE).unwrap(), "");
    world.copy();
    world.target_end().finish_loading(&world.stream).unwrap();
    world.target_end().finish_loading(&world.stream).unwrap();
    assert_eq!(world.target_end().check_loaded(&world.stream).unwrap(), Vec::<String>::new());
    assert_eq!(world.target.run(SHAPE).unwrap(), before);
    world.assert_same("SELECT * FROM item", "SELECT * FROM item");
    assert_eq!(world.target_end().stream("things").unwrap().unwrap().phase, Phase::Following);
}

#[test]
fn a_rebuild_that_was_cut_short_is_finished_by_the_next() {
    let world = world();
    let before = world.target.run(SHAPE).unwrap();
    world.begin(Phase::Loading).unwrap();
    world.copy();
    let build =
        world.target.run("SELECT build FROM banyan.dropped WHERE kind = 'constraint' LIMIT 1").unwrap();
    world.target.run(&build).unwrap();
    world.target_end().finish_loading(&world.stream).unwrap();
    world.target_end().check_loaded(&world.stream).unwrap();
    assert_eq!(world.target.run(SHAPE).unwrap(), before);
}

#[test]
fn a_reference_to_a_row_that_only_the_log_knows_of_is_checked_once_that_is_there() {
    let world = world();
    world.begin(Phase::Loading).unwrap();
    world.target_end().begin_loading(&world.stream).unwrap();
    world.copy();
    world.target.run("DELETE FROM owner WHERE id = 7").unwrap();
    world.target_end().finish_loading(&world.stream).unwrap();
    let broken = world.target_end().check_loaded(&world.stream).unwrap();
    assert!(broken.len() == 1 && broken[0].contains("owned") && broken[0].contains("(7)"), "{broken:?}");
    assert_eq!(world.target.run(VALIDATED).unwrap(), "f");
    world.target.run("INSERT INTO owner VALUES (7)").unwrap();
    assert_eq!(world.target_end().check_loaded(&world.stream).unwrap(), Vec::<String>::new());
    assert_eq!(world.target.run(VALIDATED).unwrap(), "t");
}

#[test]
fn a_chunk_that_the_end_of_loading_took_back_is_not_loaded_by_a_worker_that_has_yet_to_hear_of_it() {
    let mut world = world();
    world.begin(Phase::Loading).unwrap();
    world.copy();
    world.target_end().finish_loading(&world.stream).unwrap();
    let taken_back =
        "DELETE FROM owner WHERE id = 5; UPDATE banyan.chunk SET done = false, leased_until = '-infinity'";
    world.target.run(&format!("{taken_back}; UPDATE banyan.stream SET phase = 'loading'")).unwrap();
    let url = world.target.url().to_owned();
    world.points = FailPoints::watched(move |point| {
        if point == "chunk_leased" {
            let mut other = postgres::Client::connect(&url, postgres::NoTls).unwrap();
            other.batch_execute("UPDATE banyan.stream SET phase = 'following'").unwrap();
        }
    });
    world.copy();
    world.assert_same("SELECT * FROM owner", "SELECT * FROM owner");
    world.assert_same("SELECT * FROM item", "SELECT * FROM item");
}

#[test]
fn the_chunks_of_two_workers_do_not_overlap() {
    let world = world();
    world.begin(Phase::Following).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                use crate::engine::backfill::{Copier, CopierOptions, Step};
                let points = FailPoints::none();
                let options = CopierOptions { chunk: 4, lease_seconds: 60 };
                let mut copier = Copier::open(&world.driver, &world.stream, options, &points).unwrap();
                while copier.step().unwrap() != Step::Done {}
            });
        }
    });
    world.assert_same("SELECT * FROM item", "SELECT * FROM item");
    let left = world.target_end().chunks_left(&world.stream).unwrap();
    assert_eq!((left.leased, left.done, left.rows), (0, true, 60));
}
