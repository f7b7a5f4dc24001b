//! Selects whose rows would go stale without a word: told by `plan`, refused by `capture install` and by `run`.
//!
//! Invariant: what is refused is told in the same words by all of them, with what to write instead.

use super::world::{End, Engine, World};

const SOURCE: &str = "CREATE TABLE item (id INTEGER PRIMARY KEY, parent INTEGER, label TEXT);
    CREATE TABLE label (code TEXT PRIMARY KEY NOT NULL, text TEXT);
    CREATE VIEW labels AS SELECT code, text FROM label;
    INSERT INTO label VALUES ('a', 'first'); INSERT INTO item VALUES (1, NULL, 'a'), (2, 1, 'a');";
const TARGET: &str = "CREATE TABLE article (id INTEGER PRIMARY KEY, text TEXT);";
const MANIFEST: &str = r#"
context = "items"
[[mapping]]
table = "article"
key = ["id"]
columns = ["id", "text"]
from = "item"
from_key = ["id"]
select = "SELECT"
"#;

fn world(engine: Engine, select: &str, join: &str) -> World {
    let world = World::bare(engine, SOURCE, TARGET);
    world.write_manifest(&format!("{}{join}", MANIFEST.replace("SELECT", select)));
    world
}

fn refused_on(engine: Engine, select: &str, words: &[&str]) {
    let world = world(engine, select, "");
    world.migrate(&["plan", "items"]).expect_code(1).expect_words(words).expect_words(&["problem"]);
    world.migrate(&["capture", "install", "items"]).expect_code(3).expect_words(words);
    // One that was installed before the select was changed.
    let sound = "SELECT i.id, i.label FROM source.item AS i WHERE {keys i.id}";
    world.write_manifest(&MANIFEST.replace("SELECT", sound));
    world.migrate(&["capture", "install", "items"]).expect_code(0);
    world.write_manifest(&MANIFEST.replace("SELECT", select));
    world.migrate(&["run", "items", "--until-caught-up"]).expect_code(3).expect_words(words);
    assert_eq!(world.query(End::Target, "SELECT count(*) FROM article"), ["0"]);
}

fn taken(select: &str, join: &str, change: &str, expected: &str) {
    for engine in Engine::BOTH {
        let world = world(engine, select, join);
        world.migrate(&["plan", "items"]).expect_code(0).expect_words(&["0 problems"]);
        world.migrate(&["capture", "install", "items"]).expect_code(0);
        world.catch_up();
        world.run_sql(End::Source, change);
        world.catch_up();
        let now = world.query(End::Target, "SELECT text FROM article WHERE id = 2");
        assert_eq!(now, [expected], "{engine:?} {select}");
    }
}

#[test]
fn a_table_that_no_join_names_is_refused_also_behind_a_view() {
    let by_table = "SELECT i.id, l.text FROM source.item AS i JOIN source.label AS l ON l.code = i.label WHERE {keys i.id}";
    let by_view = by_table.replace("source.label AS l", "source.labels AS l");
    let nested = "SELECT i.id, (SELECT max(text) FROM source.label) FROM source.item AS i WHERE {keys i.id}";
    for engine in Engine::BOTH {
        for select in [by_table, &by_view, nested] {
            let label = if engine == Engine::Sqlite { "reads label," } else { "reads public.label," };
            refused_on(engine, select, &[label, "does not name as a join", "[[mapping.join]]"]);
        }
    }
}

#[test]
fn a_second_reading_of_the_root_is_refused_unless_it_is_restricted_or_joined() {
    let joined = "SELECT i.id, p.label FROM source.item AS i LEFT JOIN source.item AS p ON p.id = i.parent WHERE {keys i.id}";
    for engine in Engine::BOTH {
        let words = ["reads item 2 times and restricts it 1 times", "restrict each with {keys"];
        refused_on(engine, joined, &words);
        refused_on(
            engine,
            "SELECT i.id, p.label FROM item AS p, item AS i WHERE p.id = i.parent AND {keys i.id}",
            &words,
        );
    }
    let join = "[[mapping.join]]\ntable = \"item\"\ncolumns = [\"id\"]\n\
        keys = \"SELECT id FROM source.item WHERE {values parent} UNION SELECT id FROM source.item WHERE {values id}\"\n";
    taken(joined, join, "UPDATE item SET label = 'b' WHERE id = 1", "b");
    let union = "SELECT i.id, i.label FROM source.item AS i WHERE i.id = 1 AND {keys i.id} \
        UNION ALL SELECT i.id, i.label FROM source.item AS i WHERE i.id <> 1 AND {keys i.id}";
    taken(union, "", "UPDATE item SET label = 'b' WHERE id = 2", "b");
}

#[test]
fn functions_that_do_not_give_the_same_from_the_same_rows_are_refused() {
    let calling =
        |expression: &str| format!("SELECT i.id, {expression} FROM source.item AS i WHERE {{keys i.id}}");
    let said = "does not give the same from the same rows";
    for (expression, name) in [
        ("random()", "random()"),
        ("datetime('NOW', '-1 day')", "datetime()"),
        ("unixepoch( )", "unixepoch()"),
        ("julianday('subsec')", "julianday()"),
        ("strftime('%Y')", "strftime()"),
        ("CURRENT_TIMESTAMP", "current_timestamp()"),
    ] {
        refused_on(Engine::Sqlite, &calling(expression), &[&format!("calls {name}, which {said}")]);
    }
    for (expression, name) in [
        ("now()::text", "now()"),
        ("random()::text", "random()"),
        ("current_date::text", "CURRENT_TIMESTAMP or its like"),
        ("(SELECT max(clock_timestamp())::text)", "clock_timestamp()"),
        ("txid_current()::text", "txid_current()"),
        ("i.xmin::text", "for ctid, xmin or their like"),
        ("'now'::timestamp::text", "for 'now', 'today' or their like as a time"),
    ] {
        refused_on(Engine::Postgres, &calling(expression), &[&format!("calls {name}, which {said}")]);
    }
    taken(
        &calling("date('2010-12-01') || upper(i.label)"),
        "",
        "UPDATE item SET label = 'b' WHERE id = 2",
        "2010-12-01B",
    );
}

#[test]
fn a_select_whose_rows_depend_on_the_keys_asked_for_beside_them_is_refused() {
    let all = "what it makes of one key depends on the others";
    for engine in Engine::BOTH {
        let ordered = "SELECT i.id, i.label FROM source.item AS i WHERE {keys i.id} ORDER BY i.id LIMIT 10";
        refused_on(engine, ordered, &["has LIMIT over the rows", all, "LATERAL"]);
        let window = "SELECT i.id, lag(i.label) OVER (ORDER BY i.id) FROM source.item AS i WHERE {keys i.id}";
        refused_on(engine, window, &["has a window (OVER) over the rows", all, "PARTITION BY"]);
    }
    let sampled = "SELECT i.id, i.label FROM item AS i TABLESAMPLE BERNOULLI (50) WHERE {keys i.id}";
    refused_on(Engine::Postgres, sampled, &["calls TABLESAMPLE, which does not give the same"]);
    let newest = "SELECT id, label || number FROM (SELECT i.id, i.label, row_number() OVER (PARTITION BY i.id \
        ORDER BY p.id DESC) AS number FROM source.item AS i LEFT JOIN source.item AS p ON p.id = i.parent AND {keys p.id} \
        WHERE {keys i.id}) AS numbered WHERE number = 1";
    taken(newest, "", "UPDATE item SET label = 'b' WHERE id = 2", "b1");
}

#[test]
fn a_function_of_somebody_s_own_must_be_declared_to_give_the_same() {
    let select = "SELECT i.id, shout(i.label) FROM item AS i WHERE {keys i.id}";
    let world = World::bare(Engine::Postgres, SOURCE, TARGET);
    world.run_sql(End::Source, "CREATE FUNCTION shout(text) RETURNS text LANGUAGE sql AS 'SELECT upper($1)'");
    world.write_manifest(&MANIFEST.replace("SELECT", select));
    let refused = world.migrate(&["capture", "install", "items"]).expect_code(3);
    refused.expect_words(&["calls shout(text)", "ALTER FUNCTION shout(text) IMMUTABLE"]);
    world.run_sql(End::Source, "ALTER FUNCTION shout(text) IMMUTABLE");
    world.migrate(&["capture", "install", "items"]).expect_code(0);
}

#[test]
fn a_table_is_not_copied_onto_itself() {
    for engine in Engine::BOTH {
        let world = World::bare(engine, SOURCE, TARGET);
        world.write_settings(&world.place(End::Source), &world.place(End::Source));
        let select = "SELECT i.id, i.label FROM item AS i WHERE {keys i.id}";
        let manifest = MANIFEST.replace("SELECT", select).replace("\"article\"", "\"item\"");
        world.write_manifest(&manifest.replace("\"text\"", "\"label\""));
        let words = ["source and target are one database, and item is read and filled"];
        world.migrate(&["plan", "items"]).expect_code(1).expect_words(&words);
        world.migrate(&["capture", "install", "items"]);
        world.migrate(&["run", "items", "--adopt", "--until-caught-up"]).expect_code(3).expect_words(&words);
    }
}

#[test]
fn half_a_load_limit_is_refused() {
    for engine in Engine::BOTH {
        let world = World::captured(engine, 0);
        world.migrate(&["throttle", "items"]).expect_code(0);
        world.migrate(&["pause", "items", "--dry-run"]).expect_code(0).expect_words(&["paused"]);
        let told = world.migrate(&["throttle", "items", "--load-limit", "1"]).expect_code(2);
        told.expect_words(&["limits nothing without a query", "--load-query"]);
        let both = ["throttle", "items", "--load-limit", "1", "--load-query", "SELECT 0"];
        world.migrate(&both).expect_code(0);
        world.migrate(&["throttle", "items", "--load-limit", "2"]).expect_code(0);
    }
}

#[test]
fn texts_that_a_char_fills_up_with_blanks_are_a_problem_and_a_cast_mends_it() {
    let target = "CREATE TABLE article (id INTEGER PRIMARY KEY, text CHAR(6))";
    let world = World::bare(Engine::Postgres, SOURCE, target);
    let select = |value: &str| format!("SELECT i.id, {value} FROM item AS i WHERE {{keys i.id}}");
    world.write_manifest(&MANIFEST.replace("SELECT", &select("i.label")));
    let plan = world.migrate(&["plan", "items"]).expect_code(1);
    plan.expect_words(&[
        "2 rows have a text that character(6) fills up with blanks, for example that of key 1",
    ]);
    world.write_manifest(&MANIFEST.replace("SELECT", &select("i.label::char(6)")));
    world.migrate(&["plan", "items"]).expect_code(0).expect_words(&["0 problems"]);
    world.migrate(&["capture", "install", "items"]).expect_code(0);
    world.catch_up();
    world.migrate(&["verify", "items"]).expect_code(0);
}
