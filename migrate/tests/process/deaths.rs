//! `migrate` dies at every fail point of the engine, one after another, while the application writes.
//!
//! Invariant: each death is proved by its signal; what the last run finds is what all deaths before it left behind.

use super::application::Application;
use super::world::{End, Engine, World};

const ROWS: u32 = 600;

/// Into an empty target, which is loaded before catch-up begins.
const LOADING: [&str; 11] = [
    "run_created",
    "chunk_leased",
    "chunk_snapshot",
    "chunk_registered",
    "chunk_read",
    "chunk_done",
    "run_loaded",
    "catch_up_snapshot",
    "catch_up_next",
    "catch_up_piece",
    "catch_up_pos",
];

/// Into a target with older rows, where chunks and catch-up run side by side.
const FOLLOWING: [&str; 14] = [
    "run_created",
    "catch_up_snapshot",
    "catch_up_next",
    "catch_up_piece",
    "catch_up_pos",
    "chunk_leased",
    "chunk_snapshot",
    "chunk_registered",
    "chunk_read",
    "chunk_done",
    "catch_up_piece:7",
    "chunk_done:3",
    "chunk_read:2",
    "catch_up_next:2",
];

fn die_at_each(world: &World, points: &[&str]) {
    let application = Application::start(world, ROWS, 7);
    for point in points {
        application.work(20);
        world.start_with(&["run", "items", "--adopt"], point).finish().expect_abort(point);
    }
    application.work(50);
    application.end();
    world.migrate(&["throttle", "items", "--clear"]).expect_code(0);
    world.catch_up();
    world.assert_settled();
}

fn die_while_loading(engine: Engine) {
    let world = World::captured(engine, ROWS);
    die_at_each(&world, &LOADING);
    world.run_sql(End::Target, "UPDATE article SET title = 'wrong' WHERE id % 7 = 1; DELETE FROM label");
    world.migrate(&["verify", "items"]).expect_code(1);
    world.start_with(&["repair", "items"], "repair_applied").finish().expect_abort("repair_applied");
    world.migrate(&["repair", "items"]).expect_code(0);
    world.assert_settled();
}

fn die_while_following(world: &World) {
    world.run_sql(
        End::Target,
        "INSERT INTO article VALUES (1, 'c1', 'older', 0, 'ours'), (5, 'x', 'older', 0, 'ours')",
    );
    // Slow enough that ranges are left for every point.
    world.migrate(&["throttle", "items", "--rows-per-second", "60"]).expect_code(0);
    die_at_each(world, &FOLLOWING);
}

#[test]
fn a_run_that_dies_anywhere_while_following_sqlite_ends_in_equality() {
    die_while_following(&World::captured(Engine::Sqlite, ROWS).with_small_pieces());
}

#[test]
fn a_run_that_dies_anywhere_while_following_postgres_ends_in_equality() {
    die_while_following(&World::captured(Engine::Postgres, ROWS));
}

#[test]
fn a_run_that_dies_anywhere_while_loading_sqlite_ends_in_equality() {
    die_while_loading(Engine::Sqlite);
}

#[test]
fn a_run_that_dies_anywhere_while_loading_postgres_ends_in_equality() {
    die_while_loading(Engine::Postgres);
}

/// A point that no test reaches is one whose name was misspelt, or that nobody asked about.
#[test]
fn every_fail_point_of_the_engine_is_among_them() {
    let listed = include_str!("../../src/fail_point.rs");
    let engine = listed.split("of the engine:").nth(1).unwrap().split("Invariant").next().unwrap();
    let names: Vec<&str> = engine.split('`').skip(1).step_by(2).collect();
    assert!(names.len() >= 13, "{names:?}");
    // A chunk seldom comes in between a batch, and values seldom move from piece to piece; there, only the invariant's
    // interleavings stop for certain.
    let elsewhere = ["repair_applied", "catch_up_blocked", "catch_up_wider"];
    let tried =
        |name: &str| LOADING.contains(&name) || FOLLOWING.contains(&name) || elsewhere.contains(&name);
    let left: Vec<&&str> = names.iter().filter(|name| !tried(name)).collect();
    assert!(left.is_empty(), "no process dies at {left:?}");
}
