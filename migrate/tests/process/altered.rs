//! What others do to tables, triggers and rows while a run goes on: noticed, stopped, explained; nothing is lost.
//!
//! Invariant: the commands that a refusal names are the ones run next, and they end in equality.

use super::world::{End, Engine, Job, World, until};

/// A run that has caught up and follows.
fn following(world: &World) -> Job {
    let run = world.start(&["run", "items"]);
    world.run_sql(End::Source, "UPDATE item SET name = coalesce(name, '') || '+' WHERE id = 1");
    until("the run follows", || world.is_equal());
    run
}

/// The change ends the run; what went unlogged meanwhile is found by the way that the refusal names.
fn noticed(engine: Engine, change: &str, words: &[&str]) {
    let world = World::copied(engine, 60);
    let run = following(&world);
    let change = match engine {
        Engine::Sqlite => change.to_owned(),
        Engine::Postgres => change.replace("TRIGGER banyan", &format!("TRIGGER {}", trigger(&world))),
    };
    world.run_sql(End::Source, &change);
    let told = run.finish().expect_code(3).expect_words(words);
    let told = told.expect_words(&["migrate capture install items", "migrate backfill items --again"]);
    drop(told);
    world.run_sql(
        End::Source,
        "INSERT INTO item (id, code, name) VALUES (900, 'new', 'meanwhile'); DELETE FROM item WHERE id = 2",
    );
    // Whoever runs it again without having read is told again, and so is who only looks.
    world.migrate(&["run", "items"]).expect_code(3).expect_words(words);
    world.migrate(&["status", "items"]).expect_code(1).expect_words(words);
    world.migrate(&["capture", "install", "items"]).expect_code(0);
    world.migrate(&["run", "items"]).expect_code(3).expect_words(&["migrate backfill items --again"]);
    world.migrate(&["backfill", "items", "--again"]).expect_code(0).expect_words(&["verify"]);
    world.catch_up();
    // Rows that were deleted unlogged are what a backfill cannot see.
    world.migrate(&["verify", "items"]).expect_code(1);
    world.migrate(&["repair", "items"]).expect_code(0);
    world.migrate(&["verify", "items"]).expect_code(0);
    world.assert_settled();
}

fn trigger(world: &World) -> String {
    world
        .query(
            End::Source,
            "SELECT tgname FROM pg_trigger WHERE tgname LIKE 'banyan%_new' AND tgrelid = 'item'::regclass",
        )
        .remove(0)
}

fn triggers(world: &World) -> Vec<String> {
    world.query(End::Source, "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'item'")
}

#[test]
fn a_trigger_that_somebody_dropped_is_noticed() {
    let drop = "DROP TRIGGER banyan ON item";
    noticed(Engine::Postgres, drop, &["no more: trigger", "public.item"]);
    let world = World::captured(Engine::Sqlite, 1);
    let drop = format!("DROP TRIGGER \"{}\"", triggers(&world).remove(0));
    noticed(Engine::Sqlite, &drop, &["item", "trigger", "missing"]);
}

#[test]
fn a_trigger_that_somebody_disabled_is_noticed() {
    noticed(Engine::Postgres, "ALTER TABLE item DISABLE TRIGGER banyan", &["new: trigger", "public.item"]);
}

#[test]
fn a_column_that_somebody_added_is_noticed() {
    let change = "ALTER TABLE item ADD COLUMN colour TEXT";
    noticed(Engine::Postgres, change, &["new: column public.item.colour"]);
    noticed(Engine::Sqlite, change, &["item"]);
}

#[test]
fn a_column_whose_type_somebody_changed_is_noticed() {
    noticed(Engine::Postgres, "ALTER TABLE item ALTER price TYPE bigint", &["public.item.price", "bigint"]);
    let rebuilt = "BEGIN; CREATE TABLE other (id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, name TEXT, price BIGINT); \
        INSERT INTO other SELECT * FROM item; DROP TABLE item; ALTER TABLE other RENAME TO item; COMMIT";
    noticed(Engine::Sqlite, rebuilt, &["item", "rebuilt by DROP and RENAME"]);
}

#[test]
fn an_index_that_somebody_made_is_nothing_to_a_run() {
    for engine in Engine::BOTH {
        let world = World::copied(engine, 60);
        let run = following(&world);
        world.run_sql(End::Source, "CREATE INDEX plain ON item (price)");
        world.run_sql(End::Source, "UPDATE item SET name = 'second' WHERE id = 2");
        until("the run goes on", || world.is_equal());
        run.stop().expect_code(0);
        world.migrate(&["status", "items"]).expect_code(0);
    }
}

#[test]
fn a_source_put_back_from_a_backup_is_told_by_status_as_by_run() {
    let world = World::copied(Engine::Sqlite, 60);
    let (source, backup) = (world.path("source.db"), world.path("backup.db"));
    world.query(End::Source, "PRAGMA wal_checkpoint(TRUNCATE)");
    std::fs::copy(&source, &backup).unwrap();
    world.run_sql(End::Source, "UPDATE item SET name = 'lost' WHERE id = 2");
    world.catch_up();
    for beside in ["source.db-wal", "source.db-shm"] {
        std::fs::remove_file(world.path(beside)).ok();
    }
    std::fs::copy(&backup, &source).unwrap();
    let words = ["changes may have gone unlogged", "migrate backfill items --again"];
    world.migrate(&["status", "items"]).expect_code(1).expect_words(&words);
    world.migrate(&["run", "items"]).expect_code(3).expect_words(&words);
}

#[test]
fn a_copy_that_cannot_begin_anew_is_not_forgotten() {
    for engine in Engine::BOTH {
        let world = World::copied(engine, 60);
        world.migrate(&["capture", "remove", "items"]).expect_code(0);
        world.migrate(&["backfill", "items", "--again"]).expect_code(3).expect_words(&["capture install"]);
        world.migrate(&["capture", "install", "items"]).expect_code(0);
        let told = world.migrate(&["run", "items", "--until-caught-up"]).expect_code(3);
        told.expect_words(&["migrate backfill items --again"]);
        world.migrate(&["backfill", "items", "--again"]).expect_code(0);
        world.catch_up();
        world.assert_settled();
    }
}

/// The run ends; when the change is taken back, the named way leads on.
fn noticed_until_undone(end: End, change: &str, undo: &str, words: &[&str]) {
    for engine in Engine::BOTH {
        let world = World::copied(engine, 60);
        let run = following(&world);
        world.run_sql(end, change);
        if end == End::Target {
            world.run_sql(
                End::Source,
                "UPDATE item SET name = 'second' WHERE id = 2; UPDATE label SET text = 'x'",
            );
        }
        run.finish().expect_code(3).expect_words(words);
        world.migrate(&["run", "items"]).expect_code(3).expect_words(words);
        if end == End::Source {
            // 3 if it cannot even be read.
            let told = world.migrate(&["status", "items"]).expect_words(words);
            assert!(matches!(told.code(), Some(1 | 3)), "{}", told.text);
        }
        world.run_sql(end, undo);
        if end == End::Source {
            world.migrate(&["capture", "install", "items"]).expect_code(0);
            world.migrate(&["backfill", "items", "--again"]).expect_code(0);
        }
        world.catch_up();
        world.assert_settled();
    }
}

#[test]
fn a_source_column_that_somebody_dropped_or_renamed_is_noticed() {
    let (rename, back) = ("ALTER TABLE item RENAME name TO title", "ALTER TABLE item RENAME title TO name");
    noticed_until_undone(End::Source, rename, back, &["item", "migrate capture install items"]);
    let (drop, back) = ("ALTER TABLE item DROP COLUMN price", "ALTER TABLE item ADD COLUMN price INTEGER");
    noticed_until_undone(End::Source, drop, back, &["item", "migrate capture install items"]);
}

#[test]
fn a_source_table_that_somebody_renamed_is_noticed() {
    let (rename, back) = ("ALTER TABLE item RENAME TO thing", "ALTER TABLE thing RENAME TO item");
    noticed_until_undone(End::Source, rename, back, &["no table", "item"]);
}

#[test]
fn a_target_column_or_table_that_somebody_took_away_is_noticed() {
    let (rename, back) =
        ("ALTER TABLE article RENAME title TO heading", "ALTER TABLE article RENAME heading TO title");
    noticed_until_undone(End::Target, rename, back, &["article", "no column title"]);
    let (rename, back) = ("ALTER TABLE article RENAME TO thing", "ALTER TABLE thing RENAME TO article");
    noticed_until_undone(End::Target, rename, back, &["no table", "article"]);
}

#[test]
fn a_trigger_that_somebody_made_at_the_target_is_noticed_before_it_swallows_a_row() {
    for engine in Engine::BOTH {
        let world = World::copied(engine, 60);
        let run = following(&world);
        world.run_sql(
            End::Target,
            match engine {
                Engine::Sqlite => {
                    "CREATE TRIGGER theirs BEFORE UPDATE ON article BEGIN SELECT RAISE(IGNORE); END"
                }
                Engine::Postgres => {
                    "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
                     CREATE TRIGGER theirs BEFORE UPDATE ON article FOR EACH ROW EXECUTE FUNCTION swallow(); \
                     ALTER TABLE article ENABLE ALWAYS TRIGGER theirs"
                }
            },
        );
        world.run_sql(End::Source, "UPDATE item SET name = 'second' WHERE id = 2");
        run.finish().expect_code(3).expect_words(&["theirs", "article"]);
        world.run_sql(
            End::Target,
            if engine == Engine::Sqlite { "DROP TRIGGER theirs" } else { "DROP TRIGGER theirs ON article" },
        );
        world.catch_up();
        assert!(world.is_equal());
        world.assert_settled();
    }
}

#[test]
fn a_target_table_made_anew_is_not_taken_for_the_one_that_was_filled() {
    let world = World::copied(Engine::Postgres, 60);
    world.run_sql(End::Target, "CREATE TABLE other (LIKE article INCLUDING ALL)");
    world.run_sql(End::Target, "DROP TABLE article; ALTER TABLE other RENAME TO article");
    let words = ["article", "made anew", "migrate backfill items --again"];
    world.migrate(&["run", "items", "--until-caught-up"]).expect_code(3).expect_words(&words);
    world.migrate(&["backfill", "items", "--again"]).expect_code(0);
    world.catch_up();
    assert!(world.is_equal());
}

#[test]
fn a_check_at_the_target_that_a_row_breaks_is_told_with_what_to_do() {
    let world = World::copied(Engine::Postgres, 60);
    let run = following(&world);
    world.run_sql(End::Target, "ALTER TABLE article ADD CONSTRAINT short CHECK (title <> 'long')");
    world.run_sql(End::Source, "UPDATE item SET name = 'long' WHERE id = 2");
    run.finish().expect_code(3).expect_words(&["the target", "\"short\"", "migrate run"]);
    world.run_sql(End::Target, "ALTER TABLE article DROP CONSTRAINT short");
    world.catch_up();
    world.assert_settled();
}

#[test]
fn a_log_that_somebody_emptied_or_dropped_is_noticed() {
    for engine in Engine::BOTH {
        let world = World::copied(engine, 60);
        let run = following(&world);
        let drop = match engine {
            Engine::Sqlite => "DROP TABLE banyan_log".to_owned(),
            Engine::Postgres => "DROP SCHEMA banyan CASCADE".to_owned(),
        };
        // A schema's tables are locked one by one, so it may meet the run crosswise and be the one that gives way.
        until("the log is gone", || world.connect(End::Source).run(&drop).is_ok());
        run.finish().expect_code(3).expect_words(&["migrate capture install items"]);
        world.migrate(&["capture", "install", "items"]).expect_code(0);
        world.run_sql(End::Source, "UPDATE item SET name = 'second' WHERE id = 2");
        world.migrate(&["run", "items"]).expect_code(3).expect_words(&["migrate backfill items --again"]);
        world.migrate(&["backfill", "items", "--again"]).expect_code(0);
        world.catch_up();
        world.assert_settled();
    }
}

#[test]
fn a_target_that_a_stranger_emptied_is_found_by_verify_and_filled_by_repair() {
    for engine in Engine::BOTH {
        let world = World::copied(engine, 60);
        let run = following(&world);
        let truncate = if engine == Engine::Sqlite { "DELETE FROM article" } else { "TRUNCATE article" };
        world.run_sql(End::Target, truncate);
        world.run_sql(End::Source, "UPDATE item SET name = 'second' WHERE id = 2");
        until("catch-up goes on", || world.query(End::Target, "SELECT title FROM article") == ["second"]);
        world.migrate(&["verify", "items"]).expect_code(1).expect_words(&["migrate repair items"]);
        world.migrate(&["repair", "items"]).expect_code(0);
        assert!(world.is_equal());
        run.stop().expect_code(0);
        world.assert_settled();
    }
}

#[test]
fn bookkeeping_that_somebody_removed_ends_the_run_and_says_how_to_begin_anew() {
    for engine in Engine::BOTH {
        let world = World::copied(engine, 60);
        let run = following(&world);
        let table = if engine == Engine::Sqlite { "banyan_streams" } else { "banyan.stream" };
        world.run_sql(End::Target, &format!("DELETE FROM {table}"));
        run.finish().expect_code(3).expect_words(&["items", "migrate run"]);
        // Its rows are nobody's now; nothing is written over them unasked.
        world.migrate(&["run", "items"]).expect_code(3).expect_words(&["--adopt"]);
        world.migrate(&["backfill", "items", "--again"]).expect_code(0);
        world.catch_up();
        world.assert_settled();
    }
}
