//! The two schemas, the mappings between them, and independent SQL that says what must hold.
//!
//! Invariant: [`violations`] shares nothing with the engine but its tables: it compares everything with everything.

use rusqlite::Connection;

use super::writer::Subject;
use crate::engine::{Join, Mapping, Stream};

pub(super) const SOURCE: &str = "
    CREATE TABLE owner (id INTEGER PRIMARY KEY, label TEXT);
    CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, code TEXT UNIQUE, slot TEXT, owner INTEGER, hidden INTEGER DEFAULT 0);
    CREATE UNIQUE INDEX item_slot ON item (lower(slot)) WHERE slot <> 'none';
    CREATE TABLE tag (name TEXT COLLATE NOCASE PRIMARY KEY, note TEXT UNIQUE) WITHOUT ROWID;
    CREATE TABLE line (item INTEGER NOT NULL REFERENCES item ON DELETE CASCADE ON UPDATE CASCADE, number INTEGER NOT NULL, amount,
      PRIMARY KEY (item, number));";

pub(super) const TARGET: &str = "
    CREATE TABLE thing (thing_id INTEGER PRIMARY KEY, name TEXT, code TEXT, label TEXT, slot TEXT, remark TEXT DEFAULT 'own');
    CREATE UNIQUE INDEX thing_code ON thing (code);
    CREATE UNIQUE INDEX thing_slot ON thing (lower(slot)) WHERE slot <> 'none';
    CREATE TABLE badge (item_id INTEGER, kind TEXT, value TEXT, PRIMARY KEY (item_id, kind), UNIQUE (kind, value));
    CREATE TABLE holder (code TEXT PRIMARY KEY, name TEXT) WITHOUT ROWID;
    CREATE TABLE tag (name TEXT PRIMARY KEY, note TEXT UNIQUE);
    CREATE TABLE entry (item INTEGER, number INTEGER, amount, PRIMARY KEY (item, number)) WITHOUT ROWID;";

/// Tables that are emptied between two seeds.
pub(super) const SOURCE_TABLES: [&str; 4] = ["line", "item", "owner", "tag"];
pub(super) const TARGET_TABLES: [&str; 7] =
    ["thing", "badge", "holder", "tag", "entry", "banyan_streams", "banyan_chunks"];

/// Some of the mappings: fewer of them bring more interleavings of each.
pub(super) struct Variant {
    pub(super) mappings: &'static [usize],
    pub(super) subjects: &'static [Subject],
}

pub(super) const VARIANTS: [Variant; 8] = {
    use Subject::{Item, Line, Owner, Tag, Unique};
    let item: &[Subject] = &[Item, Unique];
    [
        Variant { mappings: &[0], subjects: &[Item, Unique, Owner] },
        Variant { mappings: &[1], subjects: item },
        Variant { mappings: &[2], subjects: item },
        Variant { mappings: &[3], subjects: &[Tag] },
        Variant { mappings: &[4], subjects: &[Item, Line, Line] },
        Variant { mappings: &[0, 2], subjects: &[Item, Unique, Owner] },
        Variant { mappings: &[1, 3], subjects: &[Item, Unique, Tag] },
        Variant { mappings: &[0, 1, 2, 3, 4], subjects: &[Item, Item, Unique, Owner, Tag, Line] },
    ]
};

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn mapping(table: &str, key: &[&str], columns: &[&str], root: (&str, &[&str]), select: &str) -> Mapping {
    Mapping {
        table: table.to_owned(),
        key: texts(key),
        columns: texts(columns),
        carries: texts(&columns[..root.1.len()]),
        select: select.to_owned(),
        root: root.0.to_owned(),
        root_key: texts(root.1),
        joins: Vec::new(),
    }
}

/// A joined table and a filter; one row into two; a key map; a text key; a composite key.
pub(super) fn stream(variant: &Variant) -> Stream {
    let item: (&str, &[&str]) = ("item", &["id"]);
    let mut thing = mapping(
        "thing",
        &["thing_id"],
        &["thing_id", "name", "code", "label", "slot"],
        item,
        "SELECT i.id, i.name, i.code, o.label, i.slot FROM source.item AS i LEFT JOIN source.owner AS o ON o.id = i.owner \
         WHERE NOT i.hidden AND {keys i.id}",
    );
    thing.joins.push(Join {
        table: "owner".to_owned(),
        columns: texts(&["id"]),
        keys: Some("SELECT i.id FROM source.item AS i WHERE {values i.owner}".to_owned()),
    });
    let badge = mapping(
        "badge",
        &["item_id", "kind"],
        &["item_id", "kind", "value"],
        item,
        "SELECT i.id, 'code', i.code FROM source.item AS i WHERE i.code IS NOT NULL AND {keys i.id} \
         UNION ALL SELECT i.id, 'name', i.id || i.name FROM source.item AS i WHERE i.name IS NOT NULL AND {keys i.id}",
    );
    let mut holder = mapping(
        "holder",
        &["code"],
        &["code", "name"],
        item,
        "SELECT i.id, i.code, i.name FROM source.item AS i WHERE i.code IS NOT NULL AND {keys i.id}",
    );
    holder.carries.clear();
    let tag = mapping(
        "tag",
        &["name"],
        &["name", "note"],
        ("tag", &["name"]),
        "SELECT t.name, t.note FROM source.tag AS t WHERE {keys t.name}",
    );
    let entry = mapping(
        "entry",
        &["item", "number"],
        &["item", "number", "amount"],
        ("line", &["item", "number"]),
        "SELECT l.item, l.number, l.amount FROM source.line AS l WHERE {keys l.item, l.number}",
    );
    let all = [thing, badge, holder, tag, entry];
    let mappings = variant.mappings.iter().map(|mapping| all[*mapping].clone()).collect();
    Stream { name: "items".to_owned(), mappings, forward: Vec::new() }
}

/// What a mapping must hold, what it holds, and which keys are dirty.
struct Expectation {
    keys: usize,
    expected: &'static str,
    actual: &'static str,
    dirty: &'static str,
    /// How the keys are written in a chunk's bounds.
    kinds: [&'static str; 2],
    collation: &'static str,
}

const ITEM_DIRTY: &str = "SELECT c1 FROM late WHERE source = 'item'";

const EXPECTATIONS: [Expectation; 5] = [
    Expectation {
        keys: 1,
        expected: "SELECT i.id AS k1, i.id, i.name, i.code, (SELECT label FROM source.owner WHERE id = i.owner), i.slot \
                   FROM source.item i WHERE i.hidden = 0",
        actual: "SELECT thing_id AS k1, thing_id, name, code, label, slot FROM target.thing",
        dirty: "SELECT c1 FROM late WHERE source = 'item' UNION SELECT id FROM source.item WHERE owner IN \
                (SELECT c1 FROM late WHERE source = 'owner')",
        kinds: ["integer", ""],
        collation: "BINARY",
    },
    Expectation {
        keys: 1,
        expected: "SELECT id AS k1, 'code', code FROM source.item WHERE code NOT NULL \
                   UNION ALL SELECT id, 'name', id || name FROM source.item WHERE name NOT NULL",
        actual: "SELECT item_id AS k1, kind, value FROM target.badge",
        dirty: ITEM_DIRTY,
        kinds: ["integer", ""],
        collation: "BINARY",
    },
    Expectation {
        keys: 1,
        expected: "SELECT id AS k1, code, name FROM source.item WHERE code NOT NULL",
        actual: "SELECT (SELECT s1 FROM target.\"banyan_keys:holder\" WHERE t1 = code) AS k1, code, name FROM target.holder",
        dirty: ITEM_DIRTY,
        kinds: ["integer", ""],
        collation: "BINARY",
    },
    Expectation {
        keys: 1,
        expected: "SELECT name COLLATE BINARY AS k1, note FROM source.tag",
        actual: "SELECT name AS k1, note FROM target.tag",
        dirty: "SELECT c1 FROM late WHERE source = 'tag'",
        kinds: ["text", ""],
        collation: "NOCASE",
    },
    Expectation {
        keys: 2,
        expected: "SELECT item AS k1, number AS k2, amount FROM source.line",
        actual: "SELECT item AS k1, number AS k2, amount FROM target.entry",
        dirty: "SELECT c1, c2 FROM late WHERE source = 'line'",
        kinds: ["integer", "integer"],
        collation: "BINARY",
    },
];

impl Expectation {
    fn differing(&self) -> String {
        let Self { expected, actual, keys, .. } = self;
        let keys = if *keys == 1 { "k1, NULL AS k2" } else { "k1, k2" };
        format!(
            "SELECT {keys} FROM (SELECT * FROM ({expected}) EXCEPT SELECT * FROM ({actual})) \
             UNION SELECT {keys} FROM (SELECT * FROM ({actual}) EXCEPT SELECT * FROM ({expected}))"
        )
    }

    fn sql(&self, mapping: usize) -> String {
        let Self { keys, dirty, kinds, collation, .. } = self;
        let bound = |column: &str| {
            let part = |n: usize| format!("json_extract({column}, '$[{n}].{}')", kinds[n]);
            if *keys == 1 { part(0) } else { format!("({}, {})", part(0), part(1)) }
        };
        let key = if *keys == 1 { format!("k1 COLLATE {collation}") } else { "(k1, k2)".to_owned() };
        let exact = if *keys == 1 { "k1 COLLATE BINARY" } else { "(k1, k2)" };
        format!(
            "SELECT {mapping}, k1, k2 FROM ({}) WHERE ({exact} NOT IN ({dirty})) AND EXISTS (SELECT 1 FROM \
             target.banyan_chunks WHERE mapping = {mapping} AND done AND (after IS NULL OR {key} > {}) \
             AND (up_to IS NULL OR {key} <= {}))",
            self.differing(),
            bound("after"),
            bound("up_to")
        )
    }
}

/// Every key of a finished range that differs though nothing of it was logged behind the position.
pub(super) fn violations(variant: &Variant) -> String {
    let parts = variant.mappings.iter().enumerate().map(|(at, mapping)| EXPECTATIONS[*mapping].sql(at));
    let parts: Vec<String> = parts.collect();
    // The log is as wide as the widest key.
    let second = if variant.mappings.contains(&4) { "c2" } else { "NULL AS c2" };
    format!(
        "WITH late AS MATERIALIZED (SELECT source, c1, {second} FROM source.banyan_log JOIN source.banyan_capture USING (tab) \
         WHERE pos > (SELECT CAST(substr(pos, instr(pos, '/') + 1) AS INTEGER) FROM target.banyan_streams)) {}",
        parts.join(" UNION ALL ")
    )
}

/// Every key that differs.
pub(super) fn differences(variant: &Variant) -> String {
    let one = |(at, mapping): (usize, &usize)| {
        format!("SELECT {at}, k1, k2 FROM ({})", EXPECTATIONS[*mapping].differing())
    };
    variant.mappings.iter().enumerate().map(one).collect::<Vec<_>>().join(" UNION ALL ")
}

/// The rows that a statement of this module yields, in words.
pub(super) fn rows(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare_cached(sql).unwrap();
    let rows = statement.query_map([], |row| {
        let key: (rusqlite::types::Value, rusqlite::types::Value) = (row.get(1)?, row.get(2)?);
        Ok(format!("mapping {} {key:?}", row.get::<_, usize>(0)?))
    });
    rows.unwrap().map(Result::unwrap).collect()
}
