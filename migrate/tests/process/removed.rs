//! Capture taken away before its copy has come to an end.
//!
//! Invariant: whatever the copy left open at the target is closed, or told with the statement that closes it.

use super::world::{End, Engine, World};

const KEY: &str = "ALTER TABLE article ADD CONSTRAINT labelled FOREIGN KEY (code) REFERENCES label (code)";

/// Backfilled, and nobody has caught up since: the foreign key stands and is not validated.
fn loaded() -> World {
    let world = World::captured(Engine::Postgres, 20);
    world.run_sql(End::Source, "INSERT INTO label SELECT code, '' FROM item");
    world.run_sql(End::Target, KEY);
    world.migrate(&["backfill", "items"]).expect_code(0);
    assert_eq!(validated(&world), "f");
    world
}

fn validated(world: &World) -> String {
    let sql = "SELECT left(convalidated::text, 1) FROM pg_constraint WHERE conname = 'labelled'";
    world.query(End::Target, sql).remove(0)
}

#[test]
fn foreign_keys_are_validated_before_capture_goes() {
    for forget in [&[][..], &["--forget"]] {
        let world = loaded();
        world.migrate(&[&["capture", "remove", "items"], forget].concat()).expect_code(0);
        assert_eq!(validated(&world), "t");
    }
}

#[test]
fn a_foreign_key_that_does_not_hold_yet_is_told_and_validated_by_the_next_copy() {
    let world = loaded();
    world.run_sql(End::Target, "SET session_replication_role = replica; DELETE FROM label WHERE code = 'c7'");
    let told = world.migrate(&["capture", "remove", "items", "--forget"]).expect_code(0);
    told.expect_words(&["labelled", "c7", "ALTER TABLE public.article VALIDATE CONSTRAINT labelled"]);
    assert_eq!(validated(&world), "f");
    world.migrate(&["capture", "install", "items"]).expect_code(0);
    world.migrate(&["run", "items", "--adopt", "--until-caught-up"]).expect_code(0);
    assert_eq!(validated(&world), "t");
}

#[test]
fn a_target_that_is_still_being_loaded_is_told_as_that() {
    let world = World::captured(Engine::Postgres, 20);
    world.start_with(&["run", "items"], "chunk_done").finish();
    let index = || world.query(End::Target, "SELECT to_regclass('article_title')::text").remove(0);
    assert_eq!(index(), "NULL");
    let told = world.migrate(&["capture", "remove", "items"]).expect_code(0);
    told.expect_words(&["still being loaded", "migrate capture remove items --forget"]);
    world.migrate(&["capture", "remove", "items", "--forget"]).expect_code(0);
    assert_eq!(index(), "article_title");
}
