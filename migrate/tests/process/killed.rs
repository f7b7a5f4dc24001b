//! `migrate` is killed at moments that nobody chose, and its server is stopped under it.
//!
//! Invariant: the moments are seeded; kills that came too late are counted, so that a test in which none landed fails.

use std::time::Duration;

use pg_harness::{Cluster, Mode};

use super::application::{Application, Chance};
use super::world::{End, Engine, SOURCE, TARGET, World, until};

const ROWS: u32 = 600;

fn killed_again_and_again(engine: Engine) {
    let world = World::captured(engine, ROWS);
    world.migrate(&["throttle", "items", "--rows-per-second", "300"]).expect_code(0);
    let application = Application::start(&world, ROWS, 11);
    let (mut chance, mut landed) = (Chance(0x5eed), 0);
    for kill in 0..8 {
        let mut jobs = vec![world.start(&["run", "items", "--workers", "2"])];
        if kill % 3 == 1 {
            jobs.push(world.start(&["run", "items", "--workers", "2"]));
        }
        if chance.below(2) == 1 {
            jobs.reverse();
        }
        for job in jobs {
            // The moment is the point, not a condition that is waited for.
            std::thread::sleep(Duration::from_millis(u64::from(40 + chance.below(450))));
            landed += u32::from(job.kill());
        }
    }
    assert!(landed >= 6, "only {landed} kills landed");
    application.work(20);
    application.end();
    world.migrate(&["throttle", "items", "--clear"]).expect_code(0);
    world.catch_up();
    world.assert_settled();
}

#[test]
fn runs_killed_at_random_on_sqlite_end_in_equality() {
    killed_again_and_again(Engine::Sqlite);
}

#[test]
fn runs_killed_at_random_on_postgres_end_in_equality() {
    killed_again_and_again(Engine::Postgres);
}

#[test]
fn of_two_backfills_beside_a_catch_up_one_is_killed_and_the_other_ends_alone() {
    for engine in Engine::BOTH {
        let world = World::captured(engine, ROWS);
        world.migrate(&["throttle", "items", "--rows-per-second", "300"]).expect_code(0);
        let application = Application::start(&world, ROWS, 13);
        let catch_up = world.start(&["catch-up", "items"]);
        let other = world.start(&["backfill", "items"]);
        let victim = world.start(&["backfill", "items"]);
        until("both copy", || world.rows_copied() > 100);
        assert!(victim.kill(), "the kill came too late");
        world.migrate(&["throttle", "items", "--clear"]).expect_code(0);
        other.finish().expect_code(0);
        application.end();
        until("catch-up has come to the end", || world.is_equal());
        catch_up.stop().expect_code(0);
        world.assert_settled();
    }
}

#[test]
fn a_run_that_another_one_took_over_ends_refused_and_the_copy_survives_the_death_of_the_other() {
    for engine in Engine::BOTH {
        let world = World::copied(engine, 100);
        let application = Application::start(&world, 100, 17);
        let first = world.start(&["run", "items"]);
        until("the first one follows", || token(&world) == 2);
        let second = world.start(&["run", "items"]);
        first.finish().expect_code(3).expect_words(&["taken the stream items over", "migrate status"]);
        assert!(second.kill(), "the second one ended, too");
        application.work(20);
        application.end();
        world.catch_up();
        world.assert_settled();
    }
}

fn token(world: &World) -> u32 {
    let table = if world.engine == Engine::Sqlite { "banyan_streams" } else { "banyan.stream" };
    world.query(End::Target, &format!("SELECT token FROM {table}"))[0].parse().unwrap()
}

#[test]
fn the_same_run_goes_on_after_its_server_crashed_and_came_back() {
    let cluster = Cluster::durable().unwrap();
    let databases = (cluster.create_database().unwrap(), cluster.create_database().unwrap());
    let world = World::between(Some(databases), SOURCE, TARGET);
    world.fill(ROWS);
    world.migrate(&["capture", "install", "items"]).expect_code(0);
    world.migrate(&["throttle", "items", "--rows-per-second", "300"]).expect_code(0);
    let application = Application::start(&world, ROWS, 19);
    let mut run = world.start(&["run", "items", "--workers", "2"]);
    for copied in [60, 200] {
        until("some is copied", || world.rows_copied() > copied);
        cluster.restart(Mode::Immediate).unwrap();
        application.work(20);
    }
    world.migrate(&["throttle", "items", "--clear"]).expect_code(0);
    until("all is copied", || world.rows_copied() + 50 > u64::from(ROWS));
    application.work(20);
    cluster.restart(Mode::Immediate).unwrap();
    application.work(20);
    application.end();
    until("the run has caught up", || world.is_equal() && world.has_no_chunk_left());
    assert!(run.runs(), "{}", run.said());
    assert!(run.said().contains("waits:"), "{}", run.said());
    run.stop().expect_code(0);
    world.assert_settled();
}
