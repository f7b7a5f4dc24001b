//! Unique values that move between rows of different pieces, whatever the unique index is made of.
//!
//! Invariant: the values wander round all rows, so no piece can be written without the rows of another.

use super::*;

const ROWS: i64 = 7;

/// Copies rows, lets the codes wander on by one row, and follows.
fn wandered(thing: &str) {
    let ends = Ends::of(&ITEM.replace(" UNIQUE", ""), thing, vec![item_to_thing()]);
    ends.start(Phase::Following).unwrap();
    for id in 1..=ROWS {
        ends.write(&format!("INSERT INTO item VALUES ({id}, 'V{id}', '1')"));
    }
    ends.copy().unwrap();
    ends.write(&format!("UPDATE item SET code = 'V' || (id % {ROWS} + 1)"));
    ends.follow().unwrap_or_else(|error| panic!("{thing}: {error}"));
    let expected = (1..=ROWS).map(|id| format!("{id}V{}1own", id % ROWS + 1)).collect::<Vec<_>>();
    let things =
        "SELECT group_concat(id || code || amount || remark, ' ') FROM (SELECT * FROM thing ORDER BY id)";
    assert_eq!(ends.target_text(things), expected.join(" "), "{thing}");
}

#[test]
fn unique_values_move_whatever_the_index_makes_of_them() {
    let columns = "id INTEGER PRIMARY KEY, code TEXT, amount INT, remark TEXT DEFAULT 'own'";
    for more in [
        ", low TEXT AS (lower(code)) STORED UNIQUE)",
        ", low TEXT AS (lower(code)) UNIQUE)",
        ", low TEXT AS (lower(code)), last TEXT AS (substr(low, -1)), UNIQUE (remark, last))",
        ", UNIQUE (remark, code))",
        "); CREATE UNIQUE INDEX codes ON thing (lower(code), remark)",
        "); CREATE UNIQUE INDEX codes ON thing (code COLLATE NOCASE) WHERE remark = 'own'",
        "); CREATE UNIQUE INDEX codes ON thing (CASE WHEN amount = '1' THEN code END)",
        "); CREATE UNIQUE INDEX codes ON thing (code) WHERE amount = '1'",
    ] {
        wandered(&format!("CREATE TABLE thing ({columns}{more}"));
    }
}

#[test]
fn unique_values_move_where_no_column_is_the_rowid() {
    for rest in [
        "low AS (lower(code)) UNIQUE, PRIMARY KEY (id))",
        "low AS (lower(code)) UNIQUE, PRIMARY KEY (id)) WITHOUT ROWID",
    ] {
        wandered(&format!(
            "CREATE TABLE thing (id INT NOT NULL, code TEXT, amount INT, remark DEFAULT 'own', {rest}"
        ));
    }
}
