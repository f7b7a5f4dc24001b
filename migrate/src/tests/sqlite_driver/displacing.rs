//! Rows that REPLACE displaces without a word: by which unique index, and by which values.
//!
//! Invariant: the target's unique index refuses the new row wherever the displaced one was not logged.

use super::*;

/// What is left of a row with the code `a` once another statement has displaced it.
fn displaced(item: &str, first: &str, replace: &str) -> String {
    let ends = Ends::of(item, THING, vec![item_to_thing()]);
    ends.write(first);
    ends.start(Phase::Following).unwrap();
    ends.copy().unwrap();
    ends.write(replace);
    ends.follow().unwrap_or_else(|error| panic!("{item}: {error}"));
    ends.things()
}

#[test]
fn what_a_default_in_the_place_of_null_displaces_is_logged() {
    for (default, index, value) in [
        ("'d'", "code", "d"),
        ("d", "code", "d"),
        ("\"amount\"", "code", "amount"),
        ("(lower('D') -- small\n)", "code", "d"),
        ("'D'", "lower(code)", "D"),
        ("'d'", "code) WHERE (code = 'd'", "d"),
    ] {
        let item = format!(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT NOT NULL DEFAULT {default}, amount); \
             CREATE UNIQUE INDEX codes ON item ({index})"
        );
        let replace = "INSERT OR REPLACE INTO item VALUES (2, NULL, 2)";
        let things = displaced(&item, "INSERT INTO item (id, amount) VALUES (1, 1)", replace);
        assert_eq!(things, format!("2{value}2own"), "{item}");
    }
}

#[test]
fn a_displaced_row_is_logged_whatever_the_condition_or_the_expression_of_the_index_reads() {
    for (index, replace) in [
        ("code) WHERE rowid > 0", "INSERT OR REPLACE INTO item VALUES (2, 'a', 'y')"),
        ("code) WHERE id > 0", "INSERT OR REPLACE INTO item (code, amount) VALUES ('a', 'y')"),
        ("code) WHERE amount > '' -- all", "INSERT OR REPLACE INTO item VALUES (2, 'a', 'y')"),
        ("code) WHERE amount = 'Y'", "INSERT OR REPLACE INTO item VALUES (2, 'a', 'y')"),
        ("CASE WHEN amount = 'Y' THEN code END)", "INSERT OR REPLACE INTO item VALUES (2, 'a', 'y')"),
        (
            "code) WHERE rowid > 0",
            "INSERT INTO item VALUES (2, 'b', 'y'); UPDATE OR REPLACE item SET code = 'a' WHERE id = 2",
        ),
    ] {
        let item = format!(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT, amount TEXT COLLATE NOCASE NOT NULL DEFAULT 'x'); \
             CREATE UNIQUE INDEX codes ON item ({index}"
        );
        assert_eq!(displaced(&item, "INSERT INTO item VALUES (1, 'a', 'y')", replace), "2ayown", "{item}");
    }
}

#[test]
fn a_displaced_row_is_logged_where_the_index_relies_on_a_columns_affinity() {
    for (amount, index) in [
        ("INT", "CASE WHEN amount = '1' THEN code END)"),
        ("INT", "CASE WHEN amount IN ('1') THEN lower(code) END)"),
        ("INT", "code) WHERE amount = '1'"),
        ("INT", "lower(code)) WHERE amount = '1'"),
        ("TEXT", "CASE amount WHEN 1 THEN code END)"),
        ("TEXT", "CASE WHEN 1 = amount AND code = 'A' THEN 1 END)"),
        ("NUMERIC", "CASE WHEN amount BETWEEN '1' AND '2' THEN code END)"),
    ] {
        let item = format!(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT COLLATE NOCASE, amount {amount}); \
             CREATE UNIQUE INDEX codes ON item ({index}"
        );
        for replace in [
            "INSERT OR REPLACE INTO item VALUES (2, 'a', '1')",
            "INSERT INTO item VALUES (2, 'b', 0); UPDATE OR REPLACE item SET code = 'a', amount = 1 WHERE id = 2",
        ] {
            assert_eq!(displaced(&item, "INSERT INTO item VALUES (1, 'a', 1)", replace), "2a1own", "{item}");
        }
    }
}

#[test]
fn a_displaced_row_is_logged_where_the_index_is_computed_from_the_id_that_sqlite_chooses() {
    for (key, index) in [
        ("INTEGER PRIMARY KEY", "CASE WHEN id > 0 AND amount = '1' THEN code END"),
        ("INTEGER PRIMARY KEY", "code || (id / 2)"),
        ("INTEGER PRIMARY KEY AUTOINCREMENT", "code || (id / 8)"),
    ] {
        let item = format!(
            "CREATE TABLE item (id {key}, code TEXT, amount INT); CREATE UNIQUE INDEX codes ON item ({index})"
        );
        let first =
            "INSERT INTO item VALUES (6, 'gone', 1); DELETE FROM item; INSERT INTO item VALUES (2, 'a', 1)";
        for replace in [
            "REPLACE INTO item (code, amount) VALUES ('a', 1)",
            "REPLACE INTO item (id, code, amount) VALUES (NULL, 'a', 1)",
        ] {
            let left = if key.ends_with("AUTOINCREMENT") { "7a1own" } else { "3a1own" };
            assert_eq!(displaced(&item, first, replace), left, "{item}");
        }
    }
}

#[test]
fn a_displaced_row_is_logged_whatever_the_column_is_called() {
    for name in ["\"sel\"\"ect\"", "[a\"b]", "`a``b`", "\"a]b\"", "\"from\""] {
        let item = format!(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT, amount, {name} INT); \
             CREATE UNIQUE INDEX codes ON item (CASE WHEN {name} = '1' THEN code END)"
        );
        let first = "INSERT INTO item VALUES (1, 'a', 1, 1)";
        assert_eq!(displaced(&item, first, "REPLACE INTO item VALUES (2, 'a', 2, 1)"), "2a2own", "{item}");
    }
}

#[test]
fn a_displaced_row_is_logged_by_whatever_name_the_id_is_written() {
    let by_code = Mapping {
        key: names(&["code"]),
        carries: names(&["code"]),
        select: "SELECT i.id, i.code, i.amount FROM source.item AS i WHERE {keys i.code}".to_owned(),
        root_key: names(&["code"]),
        ..item_to_thing()
    };
    for set in ["rowid = 1", "OID = 1", "\"_rowid_\" = 1", "[ID] = 1", "(amount, id) = (2, 1)"] {
        let item = "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, amount)";
        let ends =
            Ends::of(item, &THING.replace("id INTEGER PRIMARY KEY", "id INTEGER"), vec![by_code.clone()]);
        ends.write("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2)");
        ends.start(Phase::Following).unwrap();
        ends.copy().unwrap();
        ends.write(&format!("UPDATE OR REPLACE item SET {set} WHERE id = 2"));
        ends.follow().unwrap();
        assert_eq!(ends.things(), "1b2own", "{set}");
    }
}
