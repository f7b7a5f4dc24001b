//! Files that ask for more than SQLite alone gives: other encodings, collations and functions of their application.
//!
//! Invariant: whatever is refused is refused before anything was changed, with what to do.

use rusqlite::functions::FunctionFlags;

use super::*;

/// A connection of an application that has a function of its own. Collations are put into the schema as text.
fn with_slug(conn: &Connection) {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    conn.create_scalar_function("slug", 1, flags, |ctx| ctx.get::<Option<String>>(0)).unwrap();
}

fn localized(conn: &Connection) {
    let sql = "PRAGMA writable_schema = on; UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'LOCALIZED'); \
               PRAGMA writable_schema = reset";
    conn.execute_batch(sql).unwrap();
}

#[test]
fn a_key_that_its_unique_index_holds_apart_more_finely_is_refused_at_both_ends() {
    let finer = |table: &str| {
        format!(
            "CREATE TABLE {table} (id TEXT COLLATE NOCASE NOT NULL, code, amount, remark); \
             CREATE UNIQUE INDEX {table}_id ON {table} (id COLLATE BINARY)"
        )
    };
    let ends = Ends::of(&finer("item"), &finer("thing"), vec![item_to_thing()]);
    let (mut source, mut target) = (ends.driver.source().unwrap(), ends.driver.target().unwrap());
    let said = refusal(source.install_capture(&ends.stream));
    assert!(said.contains("(id) of item is not unique"), "{said}");
    assert!(source.describe().unwrap()[0].key.is_empty());
    let said = refusal(target.prepare(&ends.stream));
    assert!(said.contains("no unique index of thing covers exactly its key"), "{said}");
    ends.write("CREATE UNIQUE INDEX alike ON item (id)");
    ends.target.execute_batch("CREATE UNIQUE INDEX alike ON thing (id)").unwrap();
    ends.start(Phase::Following).unwrap();
    assert_eq!(source.describe().unwrap()[0].key, ["id"]);
}

#[test]
fn a_file_whose_text_is_utf16_is_refused_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("wide.db");
    let conn = Connection::open(&file).unwrap();
    conn.execute_batch("PRAGMA encoding = 'UTF-16le'; PRAGMA journal_mode = wal; CREATE TABLE item (id)")
        .unwrap();
    let driver = SqliteDriver::new(&file, &file, SqliteOptions::default());
    for said in [refusal(driver.source()), refusal(driver.target())] {
        assert!(said.contains("UTF-16") && said.contains(".dump | sqlite3"), "{said}");
    }
}

#[test]
fn what_only_the_targets_application_can_keep_up_is_refused_before_an_index_is_dropped() {
    let plain = "CREATE INDEX plain ON thing (amount)";
    for (made, name) in [
        ("CREATE INDEX slugs ON thing (slug(code))", "slugs"),
        ("CREATE INDEX slugs ON thing (amount) WHERE slug(code) > ''", "slugs"),
        ("CREATE INDEX words ON thing (code COLLATE NOCASE)", "words"),
        ("ALTER TABLE thing ADD COLUMN slug AS (slug(code))", "CHECK or a generated column of thing"),
    ] {
        let ends = Ends::items();
        with_slug(&ends.target);
        ends.target.execute_batch(&format!("{plain}; {made}")).unwrap();
        localized(&ends.target);
        let said = refusal(ends.start(Phase::Loading));
        assert!(said.contains(name) && said.contains("until the copy has ended"), "{said}");
        assert_eq!(ends.target_text("SELECT sql FROM sqlite_schema WHERE name = 'plain'"), plain);
        if made.starts_with("CREATE") {
            ends.target.execute_batch(&format!("DROP INDEX {name}")).unwrap();
            ends.start(Phase::Loading).unwrap();
        }
    }
}

#[test]
fn what_only_the_sources_application_knows_is_refused_of_keys_and_left_alone_elsewhere() {
    let item = "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT COLLATE NOCASE UNIQUE, amount)";
    let ends = Ends::of(item, THING, vec![item_to_thing()]);
    ends.write("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2)");
    localized(&ends.source);
    ends.start(Phase::Following).unwrap();
    ends.copy().unwrap();
    assert_eq!(ends.things(), "1a1own 2b2own");
    let ends = Ends::of(&item.replace("id INTEGER", "id TEXT COLLATE NOCASE"), THING, vec![item_to_thing()]);
    localized(&ends.source);
    let said = refusal(ends.start(Phase::Following));
    assert!(
        said.contains("rows of item cannot be found by (\"id\"): no such collation sequence: LOCALIZED"),
        "{said}"
    );
}

#[test]
fn a_load_query_that_does_not_end_is_ended() {
    let ends = Ends::items();
    let mut source = ends.driver.clone().waiting(std::time::Duration::from_millis(10)).source().unwrap();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    assert!(source.measure(endless).unwrap_err().to_string().contains("took more than"));
    assert!(source.measure("SELECT nope").unwrap_err().to_string().contains("no such column: nope"));
    assert_eq!(source.measure("SELECT 2.5").unwrap(), 2.5);
}

#[test]
fn a_key_is_dirty_whichever_way_the_log_spells_it() {
    let nocase = |table: &str| table.replace("id INTEGER", "id TEXT COLLATE NOCASE");
    let ends = Ends::of(&nocase(ITEM), &nocase(THING), vec![item_to_thing()]);
    ends.write("INSERT INTO item VALUES ('a', 'a', 1)");
    ends.start(Phase::Following).unwrap();
    ends.copy().unwrap();
    ends.write("REPLACE INTO item VALUES ('A', 'a', 2)");
    ends.follow().unwrap();
    let pos = ends.driver.target().unwrap().stream(&ends.stream.name).unwrap().unwrap().pos;
    ends.write("UPDATE item SET amount = 3");
    let mut source = ends.driver.source().unwrap();
    source.begin(&ends.stream, None).unwrap();
    let asked = ["[{\"text\":\"a\"}]", "[{\"text\":\"A\"}]"].map(|key| Bound(key.to_owned()));
    assert_eq!(source.dirty_among(&ends.stream.mappings[0], &pos, &asked).unwrap(), asked);
}

#[test]
fn two_source_keys_that_the_target_holds_equal_are_refused() {
    let item = "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT UNIQUE, amount)";
    let thing = "CREATE TABLE thing (code TEXT COLLATE NOCASE PRIMARY KEY, amount, id INT, remark TEXT DEFAULT 'own')";
    let by_code = |carries: &[&str], select: &str| Mapping {
        key: names(&["code"]),
        columns: names(&["code", "amount", "id"]),
        carries: names(carries),
        select: format!("{select} FROM source.item AS i WHERE {{keys i.id}}"),
        ..item_to_thing()
    };
    for mapping in [
        by_code(&["id"], "SELECT i.code, i.amount, i.id"),
        by_code(&[], "SELECT i.id, i.code, i.amount, i.id"),
    ] {
        let ends = Ends::of(item, thing, vec![mapping]);
        ends.write("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2)");
        ends.start(Phase::Following).unwrap();
        ends.copy().unwrap();
        ends.write("INSERT INTO item VALUES (3, 'A', 3)");
        let said = refusal(ends.follow());
        assert!(said.contains("makes two rows with one key (code)"), "{said}");
        assert_eq!(ends.things(), "1a1own 2b2own");
        ends.write("DELETE FROM item WHERE id = 3; UPDATE item SET code = 'B' WHERE id = 2");
        ends.follow().unwrap();
        assert_eq!(ends.things(), "1a1own 2B2own");
    }
    // Where the key itself is the source's, the target could not find a row by it.
    let natural =
        Mapping { root_key: names(&["code"]), ..by_code(&["code"], "SELECT i.code, i.amount, i.id") };
    let natural = Mapping { select: natural.select.replace("{keys i.id}", "{keys i.code}"), ..natural };
    let said = refusal(Ends::of(item, thing, vec![natural]).start(Phase::Following));
    assert!(said.contains("compared by BINARY at the source") && said.contains("carries = []"), "{said}");
}
