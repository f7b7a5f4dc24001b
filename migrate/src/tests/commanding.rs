//! Facts about commands as a person types them: refusals with their reasons, the way back, and drafts that fit.
//!
//! Invariant: everything goes through the command line's own words, with settings in a file of each test's own folder.

use std::path::Path;
use std::time::Duration;

use pg_harness::shared_database;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::cli::run_words;
use crate::error::MigrateError;
use crate::fail_point::FailPoints;
use crate::meter::Meter;
use crate::tests::world::{World, who};
use crate::verify::VerifyOptions;

/// Runs a command with the settings in a folder.
fn migrate(folder: &Path, words: &str) -> Result<u8, MigrateError> {
    let config = folder.join("migrate.toml").display().to_string();
    let line = ["migrate", "--config", &config].into_iter().chain(words.split(' '));
    run_words(line.map(str::to_owned).collect())
}

fn refusal(done: Result<u8, MigrateError>) -> String {
    let error = done.expect_err("it was not refused");
    assert_eq!(error.exit_code(), 3, "{error}");
    error.to_string()
}

fn settings(folder: &Path, context: &str, source: &str, target: &str) {
    let text = format!(
        "[control]\npath = 'control.db'\n[extractions.{context}]\nmanifest = 'extraction.toml'\n\
         source = '{source}'\ntarget = '{target}'\n"
    );
    std::fs::write(folder.join("migrate.toml"), text).unwrap();
}

fn users() -> World {
    let world = World::new();
    world.seed(3);
    settings(world.folder.path(), "users", "monolith.db", "users-service.db");
    world
}

#[test]
fn capture_and_its_runs_are_refused_while_dual_write_is_on() {
    let world = users();
    migrate(world.folder.path(), "dual-write users on").unwrap();
    for command in
        ["capture install users", "run users --until-caught-up", "catch-up users --until-caught-up"]
    {
        let said = refusal(migrate(world.folder.path(), command));
        assert!(
            said.contains("dual-write of users is on: a delayed one would overwrite"),
            "{command}: {said}"
        );
        assert!(said.contains("`migrate dual-write users off`"), "{command}: {said}");
    }
    let triggers = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'banyan:%'";
    assert_eq!(world.source.query_row(triggers, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    migrate(world.folder.path(), "dual-write users off").unwrap();
    assert_eq!(migrate(world.folder.path(), "capture install users").unwrap(), 0);
}

#[test]
fn dual_write_is_refused_where_capture_is_installed_at_either_end() {
    for (back, end) in [("", "source"), (" --back", "target")] {
        let world = users();
        migrate(world.folder.path(), &format!("capture install users{back}")).unwrap();
        let said = refusal(migrate(world.folder.path(), "dual-write users on"));
        assert!(said.contains(&format!("capture of users is installed at the {end}")), "{said}");
        assert!(said.contains(&format!("`migrate capture remove users{back} --forget`")), "{said}");
        assert_eq!(migrate(world.folder.path(), "dual-write users off").unwrap(), 0);
        migrate(world.folder.path(), &format!("capture remove users{back} --forget")).unwrap();
        assert_eq!(migrate(world.folder.path(), "dual-write users on").unwrap(), 0);
    }
}

#[test]
fn capture_is_not_removed_at_the_side_that_owns_the_data_and_is_followed() {
    let mut world = users();
    let run = |world: &World, words: &str| migrate(world.folder.path(), words);
    run(&world, "capture install users").unwrap();
    run(&world, "run users --until-caught-up").unwrap();
    world.extraction.points = FailPoints::crash_at("switch_held");
    switch(&world).unwrap_err();
    let said = refusal(run(&world, "capture remove users --back"));
    assert!(said.contains("a switch of users to service is in progress"), "{said}");
    world.extraction.points = FailPoints::none();
    switch(&world).unwrap();
    for words in ["capture remove users --back", "capture remove users --back --forget --dry-run"] {
        let said = refusal(run(&world, words));
        assert!(said.contains("the service owns users") && said.contains("would not come back"), "{said}");
        assert!(said.contains("`migrate switch users --to monolith`"), "{said}");
    }
    assert_eq!(run(&world, "capture status users --back").unwrap(), 0);
    run(&world, "run users --back --until-caught-up").unwrap();
    run(&world, "switch users --to monolith").unwrap();
    assert_eq!(run(&world, "capture remove users --back --forget").unwrap(), 0);
}

#[test]
fn nothing_is_copied_into_the_side_that_owns_the_data() {
    let world = users();
    let run = |words: &str| migrate(world.folder.path(), words);
    let refused = |words: &str, owner: &str, next: &str| {
        let said = refusal(run(words));
        assert!(said.contains(&format!("the {owner} owns users, and its newer rows")), "{words}: {said}");
        assert!(said.contains(next), "{words}: {said}");
    };
    run("capture install users").unwrap();
    run("run users --until-caught-up").unwrap();
    refused("run users --back", "monolith", "`migrate run users`");
    switch(&world).unwrap();
    // What rests writes nothing, so a run that waits there is let in; one that would copy anew is not.
    assert_eq!(run("run users --until-caught-up").unwrap(), 0);
    refused("backfill users --again", "service", "`migrate run users --back`");
    run("capture remove users --forget").unwrap();
    run("capture install users").unwrap();
    for words in ["run users --adopt", "backfill users --adopt", "catch-up users"] {
        refused(words, "service", "`migrate switch users --to monolith`");
    }
    assert_eq!(run("run users --back --until-caught-up").unwrap(), 0);
}

/// Hands ownership to the service.
fn switch(world: &World) -> Result<(), MigrateError> {
    let options = VerifyOptions { patience: Duration::ZERO, ..VerifyOptions::default() };
    let mut meter = Meter::silent();
    crate::switch::run(&world.extraction, control::Side::Service, &who(), options, &mut meter).map(drop)
}

const ITEMS: &str = "
context = 'items'
[[mapping]]
table = 'article'
key = ['id']
columns = ['id', 'title']
from = 'item'
from_key = ['id']
select = 'SELECT i.id, i.name FROM source.item AS i WHERE {keys i.id}'
[[inverse]]
table = 'item'
key = ['id']
columns = ['id', 'name']
from = 'article'
from_key = ['id']
select = 'SELECT a.id, a.title FROM target.article AS a WHERE {keys a.id}'
";

fn items(source: &str, target: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let create = |name: &str, sql: &str| {
        let conn = Connection::open(folder.path().join(name)).unwrap();
        conn.execute_batch("PRAGMA journal_mode = wal").unwrap();
        conn.execute_batch(sql).unwrap();
    };
    create("shop.db", source);
    create("items.db", target);
    std::fs::write(folder.path().join("extraction.toml"), ITEMS).unwrap();
    let text = "[extractions.items]\nmanifest = 'extraction.toml'\nsource = 'shop.db'\ntarget = 'items.db'\n";
    std::fs::write(folder.path().join("migrate.toml"), text).unwrap();
    folder
}

const ITEM: &str = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, note TEXT DEFAULT 'own');";
const ARTICLE: &str = "CREATE TABLE article (id INTEGER PRIMARY KEY, title TEXT);";

#[test]
fn the_way_back_leaves_columns_alone_that_the_inverse_does_not_map() {
    let old = format!(
        "{ITEM} INSERT INTO item VALUES (1, 'one', 'first'), (2, 'two', 'second'), (3, 'three', 'third')"
    );
    let new = format!("{ARTICLE} INSERT INTO article VALUES (1, 'one'), (2, 'changed'), (4, 'new')");
    let folder = items(&old, &new);
    migrate(folder.path(), "capture install items --back").unwrap();
    migrate(folder.path(), "run items --back --adopt --until-caught-up").unwrap();
    let service = Connection::open(folder.path().join("items.db")).unwrap();
    service
        .execute_batch("UPDATE article SET title = 'uno' WHERE id = 1; DELETE FROM article WHERE id = 2")
        .unwrap();
    migrate(folder.path(), "run items --back --until-caught-up").unwrap();
    let monolith = Connection::open(folder.path().join("shop.db")).unwrap();
    let rows =
        "SELECT group_concat(id || ' ' || name || ' ' || note, ', ') FROM (SELECT * FROM item ORDER BY id)";
    let rows: String = monolith.query_row(rows, [], |row| row.get(0)).unwrap();
    // What the service never had is not the way back's to remove.
    assert_eq!(rows, "1 uno first, 3 three third, 4 new own");
}

#[test]
fn plan_looks_both_ways_without_a_control_store_and_says_by_its_exit_code_what_it_found() {
    let folder = items(&format!("{ITEM} INSERT INTO item (id, name) VALUES (1, 'one')"), ARTICLE);
    assert_eq!(migrate(folder.path(), "plan items").unwrap(), 0);
    assert_eq!(migrate(folder.path(), "plan items --deep --json").unwrap(), 0);
    assert_eq!(migrate(folder.path(), "plan items --back").unwrap(), 0);
    let service = Connection::open(folder.path().join("items.db")).unwrap();
    service.execute_batch("CREATE TRIGGER spy AFTER INSERT ON article BEGIN SELECT 1; END").unwrap();
    assert_eq!(migrate(folder.path(), "plan items").unwrap(), 1);
    assert_eq!(migrate(folder.path(), "plan items --back").unwrap(), 0);
    assert_eq!(migrate(folder.path(), "plan things").unwrap_err().exit_code(), 2);
    // The last connection takes the write-ahead log with it.
    drop(service);
    std::fs::remove_file(folder.path().join("items.db")).unwrap();
    assert_eq!(migrate(folder.path(), "plan items").unwrap_err().exit_code(), 4);
    std::fs::write(folder.path().join("items.db"), "no database, but a text").unwrap();
    let error = migrate(folder.path(), "plan items").unwrap_err();
    assert!(error.to_string().contains("items.db is damaged"), "{error}");
}

#[test]
fn two_engines_are_refused_before_either_is_asked() {
    let folder = items(ITEM, ARTICLE);
    let text = "[extractions.items]\nmanifest = 'extraction.toml'\nsource = 'shop.db'\n\
        target = 'postgres://nobody:secret@nowhere.invalid/items'\n";
    std::fs::write(folder.path().join("migrate.toml"), text).unwrap();
    for command in
        ["plan items", "capture install items", "run items --until-caught-up", "verify items", "repair items"]
    {
        let said = refusal(migrate(folder.path(), command));
        assert!(
            said.contains("shop.db and postgres://nobody@nowhere.invalid/items are of two engines"),
            "{said}"
        );
    }
}

#[test]
fn a_draft_of_names_that_mean_something_in_sql_passes_plan() {
    let folder = tempfile::tempdir().unwrap();
    let odd = "CREATE TABLE \"order\" (\"group\" INTEGER PRIMARY KEY, \"Odd Name\" TEXT);
        CREATE TABLE \"a.b\" (code TEXT NOT NULL UNIQUE, \"select\" BLOB);";
    for (name, rows) in [("shop.db", "INSERT INTO \"order\" VALUES (1, 'x')"), ("items.db", "")] {
        let conn = Connection::open(folder.path().join(name)).unwrap();
        conn.execute_batch("PRAGMA journal_mode = wal").unwrap();
        conn.execute_batch(&format!("{odd} {rows}")).unwrap();
    }
    let text = "[extractions.odd]\nmanifest = 'extraction.toml'\nsource = 'shop.db'\ntarget = 'items.db'\n";
    std::fs::write(folder.path().join("migrate.toml"), text).unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let init = format!("init --source {} --context odd --output {}", at("shop.db"), at("extraction.toml"));
    assert_eq!(migrate(folder.path(), &init).unwrap(), 0);
    assert_eq!(migrate(folder.path(), "plan odd").unwrap(), 0);
}

/// Tables that a draft must not stumble over: odd names, enums, arrays, partitions, keys of several columns, and none.
const ODD: &str = "
    CREATE TYPE mood AS ENUM ('calm', 'it''s loud');
    CREATE SCHEMA \"Side Door\";
    CREATE TABLE item (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mood mood, tags text[] NOT NULL DEFAULT '{}',
        ranges int4range[], loud text GENERATED ALWAYS AS (tags[1]) STORED);
    CREATE TABLE \"Order Line\" (\"Item\" bigint REFERENCES item, place int, \"select\" numeric(8,2),
        PRIMARY KEY (place, \"Item\"));
    CREATE TABLE part (at date, id int, text text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE part_old PARTITION OF part FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
    CREATE TABLE part_new PARTITION OF part FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
    CREATE TABLE \"Side Door\".code (code varchar(5) NOT NULL UNIQUE, text text);
    CREATE TABLE keyless (text text);";
const ODD_ROWS: &str = "
    INSERT INTO item (mood, tags, ranges) VALUES ('it''s loud', '{a,b}', '{\"[1,5)\"}'), (NULL, '{}', NULL);
    INSERT INTO \"Order Line\" VALUES (1, 1, 99.99), (1, 2, NULL);
    INSERT INTO part VALUES ('2019-05-05', 1, 'old'), ('2021-05-05', 1, 'new');
    INSERT INTO \"Side Door\".code VALUES ('abcde', 'x');
    INSERT INTO keyless VALUES ('lost')";

#[test]
fn a_draft_of_odd_tables_passes_plan_and_copies_them() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (shared_database().unwrap(), shared_database().unwrap());
    source.run(&format!("{ODD}{ODD_ROWS}")).unwrap();
    target.run(ODD).unwrap();
    let text = format!(
        "[extractions.odd]\nmanifest = 'extraction.toml'\nsource = '{}'\ntarget = '{}'\n",
        source.url(),
        target.url()
    );
    std::fs::write(folder.path().join("migrate.toml"), text).unwrap();
    let output = folder.path().join("extraction.toml").display().to_string();
    let init = format!("init --source {} --context odd --output {output}", source.url());
    assert_eq!(migrate(folder.path(), &init).unwrap(), 0);
    let draft = std::fs::read_to_string(&output).unwrap();
    assert_eq!(draft.matches("[[mapping]]").count(), 4, "{draft}");
    assert!(draft.contains("# keyless") && !draft.contains("part_old"), "{draft}");
    assert_eq!(migrate(folder.path(), "plan odd").unwrap(), 0);
    migrate(folder.path(), "capture install odd").unwrap();
    migrate(folder.path(), "run odd --until-caught-up").unwrap();
    assert_eq!(migrate(folder.path(), "verify odd").unwrap(), 0);
    for query in [
        "SELECT * FROM item ORDER BY 1",
        "SELECT * FROM \"Order Line\" ORDER BY 1, 2",
        "SELECT * FROM part ORDER BY 1",
    ] {
        assert_eq!(target.run(query).unwrap(), source.run(query).unwrap());
    }
}
