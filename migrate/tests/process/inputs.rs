//! Inputs that make no sense, and databases that cannot be copied as the mapping says: told before a row is written.
//!
//! Invariant: every message says what is wrong, where, and what to do next; every exit code is the documented one.

use std::fs;

use pg_harness::Cluster;

use super::world::{End, Engine, MANIFEST, SOURCE, TARGET, World};

const INSTALL: [&str; 3] = ["capture", "install", "items"];
const RUN: [&str; 3] = ["run", "items", "--until-caught-up"];

/// Tables and mapping that `run` or its preparation must refuse.
struct Case {
    source: String,
    target: String,
    manifest: String,
    words: Vec<&'static str>,
}

impl Case {
    fn new(words: &[&'static str]) -> Self {
        let (source, target, manifest) = (SOURCE.to_owned(), TARGET.to_owned(), MANIFEST.to_owned());
        Self { source, target, manifest, words: words.to_vec() }
    }

    fn source(mut self, from: &str, to: &str) -> Self {
        assert!(self.source.contains(from));
        self.source = self.source.replace(from, to);
        self
    }

    fn target(mut self, from: &str, to: &str) -> Self {
        assert!(self.target.contains(from));
        self.target = self.target.replace(from, to);
        self
    }

    fn manifest(mut self, from: &str, to: &str) -> Self {
        assert!(self.manifest.contains(from));
        self.manifest = self.manifest.replacen(from, to, 1);
        self
    }

    /// Whichever of the two commands notices.
    fn refused_on(&self, engine: Engine, code: i32) {
        let world = World::bare(engine, &self.source, &self.target);
        world.run_sql(End::Source, "INSERT INTO item (id, code, name, price) VALUES (1, 'c1', 'one', 1)");
        world.write_manifest(&self.manifest);
        let installed = world.migrate(&INSTALL);
        let told = if installed.code() == Some(0) { world.migrate(&RUN) } else { installed };
        told.expect_code(code).expect_words(&self.words);
        assert_eq!(world.query(End::Target, "SELECT count(*) FROM label"), ["0"], "something was written");
    }

    fn refused(&self, code: i32) {
        Engine::BOTH.iter().for_each(|engine| self.refused_on(*engine, code));
    }
}

#[test]
fn a_source_key_that_is_not_unique_is_refused() {
    Case::new(&["item", "unique", "(id)"]).source("id INTEGER PRIMARY KEY", "id INTEGER NOT NULL").refused(3);
}

#[test]
fn a_source_key_with_null_is_refused() {
    let case = Case::new(&["label", "NULL"])
        .source("code TEXT NOT NULL PRIMARY KEY", "code TEXT UNIQUE")
        .source("('b', 'second')", "(NULL, 'second')");
    case.refused(3);
}

#[test]
fn a_target_without_a_unique_index_over_its_key_is_refused() {
    Case::new(&["article", "unique", "id"])
        .target("id INTEGER PRIMARY KEY", "id INTEGER NOT NULL")
        .refused(3);
}

#[test]
fn a_mapping_that_leaves_out_a_column_which_must_be_filled_is_refused() {
    Case::new(&["article", "must", "NOT NULL", "DEFAULT"])
        .target("note TEXT", "must TEXT NOT NULL")
        .refused(3);
}

#[test]
fn rows_of_which_the_target_wants_but_one_are_refused_and_told_and_nothing_is_lost() {
    let separate = TARGET.replace("code TEXT NOT NULL UNIQUE", "code TEXT NOT NULL")
        + "CREATE UNIQUE INDEX article_code ON article (code)";
    for (engine, target) in Engine::BOTH.iter().flat_map(|engine| [(*engine, TARGET), (*engine, &separate)]) {
        let world =
            World::bare(engine, &SOURCE.replace("code TEXT NOT NULL UNIQUE", "code TEXT NOT NULL"), target);
        world.fill(60);
        world.run_sql(End::Source, "UPDATE item SET code = 'c5' WHERE id = 55");
        world.migrate(&INSTALL).expect_code(0);
        world.migrate(&RUN).expect_code(3).expect_words(&["article", "unique value", "c5"]);
        world.run_sql(End::Source, "UPDATE item SET code = 'c55' WHERE id = 55");
        world.catch_up();
        world.assert_settled();
    }
}

#[test]
fn tables_and_columns_that_do_not_exist_are_named() {
    Case::new(&["item", "no column", "ident"])
        .manifest("from_key = [\"id\"]", "from_key = [\"ident\"]")
        .refused(3);
    Case::new(&["no table", "thing"]).manifest("from = \"item\"", "from = \"thing\"").refused(3);
    Case::new(&["no table", "thing"]).manifest("table = \"article\"", "table = \"thing\"").refused(3);
    Case::new(&["article", "no column", "heading"]).manifest("\"title\"", "\"heading\"").refused(3);
    Case::new(&["article", "i.heading"]).manifest("i.name", "i.heading").refused(2);
    Case::new(&["article", "5 columns", "4"]).manifest("i.price FROM", "i.price, 1 FROM").refused(2);
    Case::new(&["article", "syntax"]).manifest("SELECT i.id", "SELEKT i.id").refused(2);
}

#[test]
fn a_repair_before_the_first_run_is_refused() {
    for engine in Engine::BOTH {
        let world = World::bare(engine, SOURCE, TARGET);
        world.write_manifest(MANIFEST);
        world.migrate(&["repair", "items"]).expect_code(3).expect_words(&["migrate run items"]);
    }
}

#[test]
fn a_manifest_that_makes_no_sense_is_a_usage_error_with_its_line() {
    let world = World::bare(Engine::Sqlite, SOURCE, TARGET);
    for (text, words) in [
        ("", vec!["extraction.toml", "context"]),
        ("context = 'items'", vec!["extraction.toml:1", "[[mapping]]"]),
        ("context = 'others'\n[[mapping]]\n", vec!["extraction.toml:2", "table"]),
        ("context =", vec!["extraction.toml:1"]),
    ] {
        world.write_manifest(text);
        world.migrate(&INSTALL).expect_code(2).expect_words(&words);
    }
    fs::write(world.path("extraction.toml"), b"context = '\xe4'").unwrap();
    world.migrate(&INSTALL).expect_code(2).expect_words(&["extraction.toml", "UTF-8"]);
    fs::remove_file(world.path("extraction.toml")).unwrap();
    world.migrate(&INSTALL).expect_code(2).expect_words(&["extraction.toml", "extractions.CONTEXT.manifest"]);
}

#[test]
fn settings_that_make_no_sense_are_a_usage_error_with_their_place() {
    let world = World::bare(Engine::Sqlite, SOURCE, TARGET);
    let settings = world.path("migrate.toml");
    fs::write(&settings, "").unwrap();
    world.migrate(&INSTALL).expect_code(2).expect_words(&["unknown context `items`", "migrate.toml"]);
    fs::write(&settings, b"[extractions.items]\nsource = '\xff\xfe'").unwrap();
    world.migrate(&INSTALL).expect_code(2).expect_words(&["migrate.toml", "UTF-8"]);
    fs::write(&settings, "[extractions.items]\nsauce = 'a.db'").unwrap();
    world.migrate(&INSTALL).expect_code(2).expect_words(&["migrate.toml", "sauce", "source"]);
    fs::write(&settings, "[extractions.items]\nmanifest = 'extraction.toml'").unwrap();
    world.migrate(&INSTALL).expect_code(2).expect_words(&["extractions.items.source"]);
    fs::write(&settings, format!("[extractions.items]\n{}", "# nothing\n".repeat(3_000_000))).unwrap();
    world.migrate(&INSTALL).expect_code(2).expect_words(&["migrate.toml", "MiB"]);
}

#[test]
fn a_place_that_is_none_is_a_usage_error_and_shows_no_password() {
    let world = World::bare(Engine::Sqlite, SOURCE, TARGET);
    for (place, word) in [
        ("mysql://me:hidden@host/shop", "postgres://"),
        ("postgres://me:hidden@host:port/shop", "postgres://"),
        ("postgres://me:hidden@host/shop?nonsense=1", "postgres://"),
        ("postgres://me:hidden@host/shop?sslmode=perhaps", "verify-full"),
    ] {
        world.write_settings(place, place);
        let told = world.migrate(&INSTALL).expect_code(2).expect_words(&[word]);
        assert!(!told.text.contains("hidden"), "{}", told.text);
    }
}

#[test]
fn a_database_that_is_away_is_unreachable_and_a_run_waits_for_it() {
    for (place, words) in [
        ("nowhere.db", ["nowhere.db", "migrate.toml"]),
        ("postgres://me:hidden@127.0.0.1:1/shop", ["127.0.0.1:1/shop", "connection"]),
    ] {
        let world = World::bare(Engine::Sqlite, SOURCE, TARGET);
        world.write_settings(place, place);
        for args in [
            &INSTALL[..],
            &["capture", "status", "items"],
            &["verify", "items"],
            &["repair", "items"],
            &["pause", "items"],
        ] {
            let told = world.migrate(args).expect_code(4).expect_words(&words);
            assert!(!told.text.contains("hidden"), "{}", told.text);
        }
        world.migrate(&["status", "items"]).expect_words(&words);
        let run = world.start(&RUN);
        super::world::until("it says what it waits for", || run.said().contains("waits:"));
        let told = run.stop().expect_code(1).expect_words(&words);
        assert!(!told.text.contains("goes on"), "{}", told.text);
    }
}

#[test]
fn a_run_that_is_stopped_before_it_has_caught_up_does_not_end_as_one_that_has() {
    for engine in Engine::BOTH {
        // So few that they would all be copied before a run had looked whether it is paused.
        let world = World::captured(engine, 20);
        world.migrate(&["pause", "items"]).expect_code(0);
        for (args, code) in [(&RUN[..], 1), (&["backfill", "items"], 1), (&["run", "items"], 0)] {
            let run = world.start(args);
            // It holds the note that it writes while it goes on.
            super::world::until("it goes on", || {
                world.migrate(&["status", "items", "--json"]).text.contains("\"process\"")
            });
            run.stop().expect_code(code);
        }
    }
}

#[test]
fn a_server_that_does_not_let_us_in_says_why() {
    let cluster = Cluster::start().unwrap();
    let (source, target) = (cluster.create_database().unwrap(), cluster.create_database().unwrap());
    let (url, name) = (source.url().to_owned(), source.name().to_owned());
    let world = World::between(Some((source, target)), SOURCE, TARGET);
    world.run_sql(
        End::Source,
        "CREATE ROLE guarded LOGIN PASSWORD 'right'; CREATE ROLE shut LOGIN; CREATE ROLE idle NOLOGIN;
        COPY (VALUES ('host all guarded all scram-sha-256'), ('host all shut all reject'), ('host all all all trust')) \
        TO PROGRAM 'cat > $PGDATA/pg_hba.conf || cat > pg_hba.conf'; SELECT pg_reload_conf()",
    );
    let as_role = |role: &str| url.replace("postgres@", &format!("{role}@"));
    for (place, words) in [
        (as_role("guarded:wrong"), ["guarded", "password"]),
        (as_role("guarded"), ["asks this role", "password"]),
        (as_role("shut"), ["shut", "pg_hba.conf"]),
        (as_role("idle"), ["idle", "LOGIN"]),
        (as_role("nobody"), ["nobody", "CREATE ROLE"]),
        (url.replace(&name, "elsewhere"), ["elsewhere", "CREATE DATABASE"]),
    ] {
        world.write_settings(&place, &place);
        world.migrate(&INSTALL).expect_code(3).expect_words(&words);
        world.migrate(&RUN).expect_code(3).expect_words(&words);
    }
    let place = as_role("guarded:right");
    world.write_settings(&place, &place);
    world.migrate(&INSTALL).expect_code(3).expect_words(&["GRANT"]);
}

#[test]
fn rows_that_are_not_ours_are_left_alone_unless_they_are_adopted() {
    for engine in Engine::BOTH {
        let world = World::captured(engine, 30);
        world.run_sql(
            End::Target,
            "INSERT INTO article (id, code, title, note) VALUES (3, 'c3', 'theirs', 'kept')",
        );
        world.migrate(&RUN).expect_code(3).expect_words(&["article", "--adopt"]);
        assert_eq!(world.query(End::Target, "SELECT title FROM article"), ["theirs"]);
        world.migrate(&[&RUN[..], &["--adopt"]].concat()).expect_code(0);
        world.assert_settled();
        assert_eq!(world.query(End::Target, "SELECT note FROM article WHERE id = 3"), ["kept"]);
    }
}

#[test]
fn a_second_run_with_another_mapping_is_refused_and_the_way_it_names_ends_in_equality() {
    for engine in Engine::BOTH {
        let world = World::copied(engine, 30);
        world.write_manifest(&MANIFEST.replace("i.name,", "upper(i.name),"));
        for command in ["run", "verify"] {
            world.migrate(&[command, "items"]).expect_code(3).expect_words(&["another mapping", "--forget"]);
        }
        world.write_manifest(MANIFEST);
        world.catch_up();
        world.assert_settled();
        world.write_manifest(&MANIFEST.replace("i.name,", "upper(i.name),"));
        world.migrate(&["capture", "remove", "items", "--forget"]).expect_code(0);
        world.run_sql(End::Target, "DELETE FROM article; DELETE FROM label");
        world.migrate(&INSTALL).expect_code(0);
        world.catch_up();
        assert_eq!(world.query(End::Target, "SELECT title FROM article WHERE id = 7"), ["ITEM 7"]);
    }
}

#[test]
fn a_plan_tells_rows_that_are_not_ours_and_a_copy_begun_with_another_mapping() {
    for engine in Engine::BOTH {
        let world = World::captured(engine, 20);
        let told = |code: u8, words: &[&str]| {
            let refused = if code == 0 { 0 } else { 3 };
            world.migrate(&["plan", "items"]).expect_code(code.into()).expect_words(words);
            world.migrate(&RUN).expect_code(refused).expect_words(words);
        };
        world.run_sql(End::Target, "INSERT INTO label VALUES ('z', 'theirs')");
        told(1, &["hold rows that this copy did not put there", "--adopt"]);
        world.run_sql(End::Target, "DELETE FROM label");
        told(0, &[]);
        world.write_manifest(&MANIFEST.replace("i.price FROM", "i.price + 1 FROM"));
        told(1, &["was begun with another mapping", "migrate capture remove items --forget"]);
        world.migrate(&["status", "items"]).expect_code(1).expect_words(&["was begun with another mapping"]);
    }
}
