//! Tables that few have: names with quotes, semicolons and line breaks, hidden rowids, rows without a source key.
//!
//! Invariant: a draft that `init` writes is run as it is.

use std::fs;

use super::world::{End, Engine, SOURCE, TARGET, World};

impl World {
    /// The same tables at both ends, mapped as `init` drafts them.
    fn drafted(engine: Engine, tables: &str) -> Self {
        let world = Self::bare(engine, tables, tables);
        fs::remove_file(world.path("extraction.toml")).unwrap();
        world.migrate(&["init", "--source", &world.place(End::Source), "--context", "items"]).expect_code(0);
        world
    }

    fn follow(&self, table: &str, change: &str) {
        self.run_sql(End::Source, change);
        self.catch_up();
        let all = format!("SELECT * FROM {table} ORDER BY 1");
        assert_eq!(self.query(End::Source, &all), self.query(End::Target, &all), "{change}");
    }
}

#[test]
fn a_table_of_odd_names_is_drafted_and_copied() {
    for engine in Engine::BOTH {
        let table = "\"semi;colon '''\"";
        let columns =
            "(id integer PRIMARY KEY, \"line\nbreak\" text, \"three'''\" text, \"it's; \"\"so\"\"\" text)";
        let world = World::drafted(engine, &format!("CREATE TABLE {table} {columns}"));
        world.migrate(&["plan", "items"]).expect_code(0);
        world.migrate(&["capture", "install", "items"]).expect_code(0);
        world.follow(table, &format!("INSERT INTO {table} VALUES (1, 'a', 'b', 'c')"));
        world.follow(table, &format!("UPDATE {table} SET \"line\nbreak\" = 'd'"));
    }
}

#[test]
fn a_rowid_that_columns_hide_is_found_by_its_key() {
    let table = "CREATE TABLE q (id INTEGER PRIMARY KEY, rowid TEXT, oid TEXT, _rowid_ TEXT)";
    let world = World::drafted(Engine::Sqlite, table);
    world.migrate(&["plan", "items"]).expect_code(0);
    world.migrate(&["capture", "install", "items"]).expect_code(0);
    world.follow("q", "INSERT INTO q VALUES (1, 'a', 'b', 'c'), (2, 'd', 'e', 'f')");
    world.follow("q", "REPLACE INTO q VALUES (2, 'g', 'h', 'i')");
    world.follow("q", "UPDATE OR REPLACE q SET id = 2 WHERE id = 1");
}

#[test]
fn a_unique_key_that_includes_other_columns_is_a_key() {
    let table =
        "CREATE TABLE q (v text, a int NOT NULL, UNIQUE (a) INCLUDE (v)); CREATE TABLE keyless (v text)";
    let world = World::drafted(Engine::Postgres, table);
    assert!(fs::read_to_string(world.path("extraction.toml")).unwrap().contains("from_key = [\"a\"]"));
    world.migrate(&["capture", "install", "items"]).expect_code(0);
    world.follow("q", "INSERT INTO q VALUES ('a', 1)");
}

#[test]
fn values_of_other_types_are_told_with_the_key_of_one() {
    let table = "CREATE TABLE q (\"Customer ID\" TEXT PRIMARY KEY NOT NULL, amount INTEGER)";
    let world = World::drafted(Engine::Sqlite, table);
    world.run_sql(End::Source, "INSERT INTO q VALUES ('Cu0', 'many')");
    world.migrate(&["plan", "items"]).expect_words(&["1 rows hold text in amount", "that of key 'Cu0'"]);
}

#[test]
fn what_a_dry_run_tells_as_json_is_json() {
    let world = World::captured(Engine::Sqlite, 3);
    for command in [["run", "items", "--dry-run", "--json"], ["backfill", "items", "--dry-run", "--json"]] {
        let told = world.migrate(&command).expect_code(0).text;
        let value: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(value["stream"], "items");
    }
}

#[test]
fn a_row_without_a_source_key_is_named_by_its_own() {
    for engine in Engine::BOTH {
        let world = World::bare(
            engine,
            "CREATE TABLE item (id integer PRIMARY KEY, sku text NOT NULL UNIQUE)",
            "CREATE TABLE by_sku (sku text PRIMARY KEY NOT NULL, note text)",
        );
        world.write_manifest(
            "context = \"items\"\n[[mapping]]\ntable = \"by_sku\"\nkey = [\"sku\"]\ncolumns = [\"sku\"]\ncarries = []\n\
             from = \"item\"\nfrom_key = [\"id\"]\n\
             select = \"SELECT i.id, i.sku FROM source.item AS i WHERE {keys i.id}\"\n",
        );
        world.run_sql(End::Source, "INSERT INTO item VALUES (1, 'a'), (2, 'b')");
        world.migrate(&["capture", "install", "items"]).expect_code(0);
        world.catch_up();
        world.run_sql(End::Target, "INSERT INTO by_sku (sku) VALUES ('xx'), ('yy')");
        let (one, other) = match engine {
            Engine::Sqlite => ("none (sku = \"xx\")", "none (sku = \"yy\")"),
            Engine::Postgres => ("none (sku = xx)", "none (sku = yy)"),
        };
        world
            .migrate(&["verify", "items", "--html", "report.html"])
            .expect_code(1)
            .expect_words(&["extra", one, other]);
        assert!(fs::read_to_string(world.path("report.html")).unwrap().contains("none (sku = "));
        let told = world.migrate(&["repair", "items"]).expect_code(1);
        told.expect_words(&["2 rows carry no source key", "remove from by_sku the row", one, other]);
    }
}

#[test]
fn a_draft_that_is_not_written_is_told_as_json_and_no_context_has_a_name_that_is_none() {
    let world = World::bare(Engine::Sqlite, SOURCE, TARGET);
    let place = world.place(End::Source);
    let draft = |context: &str| {
        let output = world.path("draft.toml").display().to_string();
        let init =
            ["init", "--source", &place, "--context", context, "--output", &output, "--dry-run", "--json"];
        world.migrate(&init)
    };
    let told = draft("items").expect_code(0).text;
    let value: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&value["written"], world.path("draft.toml").exists()), (&false.into(), false));
    assert!(value["text"].as_str().unwrap().contains("[[mapping]]"), "{told}");
    draft("x:y").expect_code(2).expect_words(&["context `x:y`", "letters, digits"]);
}
