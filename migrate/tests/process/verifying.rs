//! What verification says, and what it must not say.
//!
//! Invariant: rows that a copy has yet to reach, or finds by another spelling of their key, are no differences.

use super::world::{End, Engine, World, until};

#[test]
fn a_copy_that_begins_anew_under_a_verification_makes_no_differences() {
    for engine in Engine::BOTH {
        let world = World::copied(engine, 200);
        let holds = if engine == Engine::Sqlite { "banyan_holds" } else { "banyan.hold" };
        world.run_sql(End::Source, "UPDATE item SET price = -price WHERE id > 100");
        let verify = world.start(&["verify", "items", "--patience", "120"]);
        until("it waits for what moves", || {
            world.query(End::Target, &format!("SELECT count(*) FROM {holds}")) == ["1"]
        });
        let again = ["backfill", "items", "--again"];
        world.start_with(&again, "chunk_read:2").finish().expect_abort("chunk_read:2");
        // For a moment the target knows of no copy at all.
        verify.finish().expect_code(3).expect_words(&["migrate run items"]);
        world.catch_up();
        world.migrate(&["verify", "items"]).expect_code(0);
        world.assert_settled();
    }
}

#[test]
fn a_key_that_the_target_spells_otherwise_is_one_row_too_many_and_one_too_few() {
    let item =
        "CREATE TABLE item (id TEXT COLLATE NOCASE PRIMARY KEY, code TEXT UNIQUE, name TEXT, price INTEGER)";
    let article = "CREATE TABLE article (id TEXT COLLATE NOCASE PRIMARY KEY, code TEXT UNIQUE, title TEXT, price INTEGER)";
    let label = "CREATE TABLE label (code TEXT PRIMARY KEY, text TEXT)";
    let world = World::bare(Engine::Sqlite, &format!("{item}; {label}"), &format!("{article}; {label}"));
    world.run_sql(End::Source, "INSERT INTO item (id, price) VALUES ('One', 1), ('Two', 2)");
    world.migrate(&["capture", "install", "items"]).expect_code(0);
    world.catch_up();
    world.run_sql(End::Target, "UPDATE article SET id = 'oNE' WHERE id = 'One'");
    world.migrate(&["verify", "items"]).expect_code(1).expect_words(&["0 differ, 1 missing, 1 extra"]);
    world.migrate(&["repair", "items"]).expect_code(0).expect_words(&["0 rows left"]);
    world.migrate(&["verify", "items"]).expect_code(0);
    assert_eq!(world.query(End::Target, "SELECT group_concat(id || price, ' ') FROM article"), ["One1 Two2"]);
}
