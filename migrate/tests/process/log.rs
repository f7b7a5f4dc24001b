//! A log that nobody empties: told in time, and its room used again once it is emptied.
//!
//! Invariant: sizes are asked of the databases and the file system.

use std::fs::OpenOptions;
use std::io::Write as _;

use super::world::{End, Engine, World, until};

const MANY: &str = "UPDATE item SET price = price + 1";

fn copied_with(engine: Engine, setting: &str) -> World {
    let world = World::copied(engine, 500);
    let settings = OpenOptions::new().append(true).open(world.path("migrate.toml"));
    writeln!(settings.unwrap(), "{setting}").unwrap();
    world
}

#[test]
fn status_raises_its_voice_when_nobody_catches_up_with_a_growing_log() {
    for engine in Engine::BOTH {
        let world = copied_with(engine, "warn_log_rows = 1000");
        world.migrate(&["status", "items"]).expect_code(0);
        (0..4).for_each(|_| world.run_sql(End::Source, MANY));
        let words = ["run.warn_log_rows = 1000", "nobody catches up", "migrate run items"];
        world.migrate(&["status", "items"]).expect_code(1).expect_words(&["WARNING"]).expect_words(&words);
        world.migrate(&["status", "items", "--json"]).expect_code(1).expect_words(&words);
        world.catch_up();
        // What was removed is not counted, whether or not the database has cleaned up behind it.
        world.migrate(&["status", "items"]).expect_code(0).expect_words(&["log of"]);
    }
}

#[test]
fn a_run_that_is_paused_warns_of_a_growing_log() {
    for engine in Engine::BOTH {
        let world = copied_with(engine, "warn_log_rows = 1000");
        world.migrate(&["pause", "items"]).expect_code(0);
        let run = world.start(&["run", "items"]);
        (0..4).for_each(|_| world.run_sql(End::Source, MANY));
        until("it warns", || run.said().contains("the log at the source holds"));
        world.migrate(&["resume", "items"]).expect_code(0);
        until("it goes on", || world.is_equal());
        run.stop().expect_code(0);
    }
}

#[test]
fn a_log_that_nobody_empties_ends_capture_before_the_disk_is_full() {
    for engine in Engine::BOTH {
        let world = copied_with(engine, "max_log_rows = 1000");
        world.migrate(&["capture", "install", "items"]).expect_code(0);
        world.migrate(&["status", "items"]).expect_code(0);
        // Not every transaction looks how large the log is.
        until("capture has ended", || {
            world.run_sql(End::Source, MANY);
            world.migrate(&["capture", "status", "items"]).text.contains("capture ended by itself")
        });
        world.run_sql(End::Source, "DELETE FROM item WHERE id = 7");
        let words = ["run.max_log_rows", "migrate capture install items"];
        world.migrate(&["status", "items"]).expect_code(1).expect_words(&words);
        world.migrate(&["run", "items"]).expect_code(3).expect_words(&words);
        world.migrate(&["verify", "items"]).expect_code(3).expect_words(&words);
        world.migrate(&["capture", "install", "items"]).expect_code(0);
        world.migrate(&["run", "items", "--until-caught-up"]).expect_code(3).expect_words(&["--again"]);
        world.migrate(&["backfill", "items", "--again"]).expect_code(0);
        world.catch_up();
        world.migrate(&["verify", "items"]).expect_code(1);
        world.migrate(&["repair", "items"]).expect_code(0);
        world.migrate(&["verify", "items"]).expect_code(0);
        world.migrate(&["status", "items"]).expect_code(0);
        assert!(world.is_equal());
    }
}

#[test]
fn room_of_log_rows_that_were_removed_is_used_again() {
    for engine in Engine::BOTH {
        let world = World::copied(engine, 500);
        let mut sizes = Vec::new();
        for _ in 0..6 {
            (0..4).for_each(|_| world.run_sql(End::Source, MANY));
            world.catch_up();
            sizes.push(log_bytes(&world));
        }
        // PostgreSQL chooses where rows go; without their room used again, the last would be three times the second.
        assert!(sizes[5] < 2 * sizes[1], "{engine:?}: {sizes:?}");
    }
}

/// After what the database does by itself now and then.
fn log_bytes(world: &World) -> u64 {
    if world.engine == Engine::Sqlite {
        world.query(End::Source, "PRAGMA wal_checkpoint(TRUNCATE)");
        return std::fs::metadata(world.path("source.db")).unwrap().len();
    }
    world.run_sql(End::Source, "VACUUM");
    let sql = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname ~ '^log_[0-9a-f]{16}$'";
    world.query(End::Source, sql)[0].parse().unwrap()
}

#[test]
fn a_run_that_says_nothing_any_more_is_told_of() {
    for engine in Engine::BOTH {
        let world = World::copied(engine, 5);
        let (notes, aged) = match engine {
            Engine::Sqlite => ("banyan_notes", "json_set(text, '$.at_ms', 0)"),
            Engine::Postgres => ("banyan.note", "jsonb_set(text::jsonb, '{at_ms}', '0')"),
        };
        let count = format!("SELECT count(*) FROM {notes} WHERE name = 'run'");
        let run = world.start(&["run", "items"]);
        until("it has said something", || world.query(End::Target, &count) == ["1"]);
        assert!(run.kill());
        world.run_sql(End::Target, &format!("UPDATE {notes} SET text = {aged} WHERE name = 'run'"));
        world.migrate(&["status", "items"]).expect_code(1).expect_words(&["has said nothing for"]);
        world.catch_up();
        world.migrate(&["status", "items"]).expect_code(0);
    }
}
