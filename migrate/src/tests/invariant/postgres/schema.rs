//! The two schemas, the mappings between them, and independent SQL that says what must hold.
//!
//! Invariant: [`violations`] shares nothing with the engine but its tables: it compares everything with everything.

use postgres::Client;

use super::writer::Subject;
use crate::engine::{Join, Mapping, Stream};

/// The collation of `tag.name` orders `red` before `Red`, and both before `s`; that of the target does not.
pub(super) const TABLES: &str = "
    CREATE SCHEMA source; CREATE SCHEMA target;
    CREATE TABLE source.owner (id int PRIMARY KEY, label text);
    CREATE TABLE source.item (id int PRIMARY KEY, name text, code text UNIQUE DEFERRABLE, slot text, owner int,
      hidden boolean NOT NULL DEFAULT false);
    CREATE UNIQUE INDEX item_slot ON source.item (lower(slot)) WHERE slot <> 'none';
    CREATE TABLE source.tag (name text COLLATE \"und-x-icu\" PRIMARY KEY, note text UNIQUE);
    CREATE TABLE source.line (item int NOT NULL REFERENCES source.item ON DELETE CASCADE ON UPDATE CASCADE,
      number int NOT NULL, amount numeric, PRIMARY KEY (item, number));
    CREATE TABLE target.thing (thing_id bigint PRIMARY KEY, name text, code text UNIQUE, label text, slot text,
      remark text DEFAULT 'own');
    CREATE UNIQUE INDEX thing_slot ON target.thing (lower(slot)) WHERE slot <> 'none';
    CREATE TABLE target.badge (item_id int, kind text, value text, PRIMARY KEY (item_id, kind),
      UNIQUE (kind, value) DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE target.holder (code text PRIMARY KEY, name text);
    CREATE TABLE target.tag (name text PRIMARY KEY, note text UNIQUE);
    CREATE TABLE target.entry (item int, number int, amount numeric, PRIMARY KEY (item, number));";

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
        Variant { mappings: &[0], subjects: &[Item, Owner, Owner] },
        Variant { mappings: &[0, 2], subjects: &[Item, Unique, Owner] },
        Variant { mappings: &[0, 1, 2, 3, 4], subjects: &[Item, Item, Unique, Owner, Tag, Line] },
    ]
};

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn mapping(table: &str, key: &[&str], columns: &[&str], root: (&str, &[&str]), select: &str) -> Mapping {
    Mapping {
        table: format!("target.{table}"),
        key: texts(key),
        columns: texts(columns),
        carries: texts(&columns[..root.1.len()]),
        select: select.to_owned(),
        root: format!("source.{}", root.0),
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
        "SELECT i.id, i.name, i.code, o.label, i.slot FROM source.item i LEFT JOIN source.owner o ON o.id = i.owner \
         WHERE NOT i.hidden AND {keys i.id}",
    );
    thing.joins.push(Join {
        table: "source.owner".to_owned(),
        columns: texts(&["id"]),
        keys: Some("SELECT i.id FROM source.item i WHERE {values i.owner}".to_owned()),
    });
    let badge = mapping(
        "badge",
        &["item_id", "kind"],
        &["item_id", "kind", "value"],
        item,
        "SELECT i.id, 'code', i.code FROM source.item i WHERE i.code IS NOT NULL AND {keys i.id} \
         UNION ALL SELECT i.id, 'name', i.id || i.name FROM source.item i WHERE i.name IS NOT NULL AND {keys i.id}",
    );
    let mut holder = mapping(
        "holder",
        &["code"],
        &["code", "name"],
        item,
        "SELECT i.id, i.code, i.name FROM source.item i WHERE i.code IS NOT NULL AND {keys i.id}",
    );
    holder.carries.clear();
    let tag = mapping(
        "tag",
        &["name"],
        &["name", "note"],
        ("tag", &["name"]),
        "SELECT t.name, t.note FROM source.tag t WHERE {keys t.name}",
    );
    let entry = mapping(
        "entry",
        &["item", "number"],
        &["item", "number", "amount"],
        ("line", &["item", "number"]),
        "SELECT l.item, l.number, l.amount FROM source.line l WHERE {keys l.item, l.number}",
    );
    let all = [thing, badge, holder, tag, entry];
    let mappings = variant.mappings.iter().map(|mapping| all[*mapping].clone()).collect();
    Stream { name: "items".to_owned(), mappings, forward: Vec::new() }
}

/// What a mapping must hold, what it holds, and which keys are dirty.
struct Expectation {
    expected: &'static str,
    actual: &'static str,
    /// A condition on `k1` and `k2`.
    dirty: &'static str,
    /// How the key is compared with a chunk's bounds.
    key: &'static str,
    bound: &'static str,
}

const ITEM_DIRTY: &str = "k1 IN (SELECT c0 FROM late_item) OR EXISTS (SELECT FROM late_item WHERE whole)";

const EXPECTATIONS: [Expectation; 5] = [
    Expectation {
        expected: "SELECT i.id AS k1, 0 AS k2, i.id::bigint, i.name, i.code, \
                   (SELECT label FROM source.owner o WHERE o.id = i.owner), i.slot FROM source.item i WHERE NOT i.hidden",
        actual: "SELECT thing_id::int, 0, thing_id, name, code, label, slot FROM target.thing",
        dirty: "k1 IN (SELECT c0 FROM late_item) OR EXISTS (SELECT FROM late_item WHERE whole) \
                OR EXISTS (SELECT FROM late_owner WHERE whole) \
                OR k1 IN (SELECT id FROM source.item WHERE owner IN (SELECT c0 FROM late_owner))",
        key: "k1",
        bound: "({}::json->>0)::int",
    },
    Expectation {
        expected: "SELECT id AS k1, 0 AS k2, 'code', code FROM source.item WHERE code IS NOT NULL \
                   UNION ALL SELECT id, 0, 'name', id || name FROM source.item WHERE name IS NOT NULL",
        actual: "SELECT item_id, 0, kind, value FROM target.badge",
        dirty: ITEM_DIRTY,
        key: "k1",
        bound: "({}::json->>0)::int",
    },
    Expectation {
        expected: "SELECT id AS k1, 0 AS k2, code, name FROM source.item WHERE code IS NOT NULL",
        actual: "SELECT (SELECT s0 FROM KEY_MAP WHERE k0 = code), 0, code, name FROM target.holder",
        dirty: ITEM_DIRTY,
        key: "k1",
        bound: "({}::json->>0)::int",
    },
    Expectation {
        expected: "SELECT name COLLATE \"C\" AS k1, 0 AS k2, note FROM source.tag",
        actual: "SELECT name COLLATE \"C\", 0, note FROM target.tag",
        dirty: "k1 IN (SELECT c0 COLLATE \"C\" FROM late_tag) OR EXISTS (SELECT FROM late_tag WHERE whole)",
        key: "k1 COLLATE \"und-x-icu\"",
        bound: "({}::json->>0)",
    },
    Expectation {
        expected: "SELECT item AS k1, number AS k2, amount::text FROM source.line",
        actual: "SELECT item, number, amount::text FROM target.entry",
        dirty: "(k1, k2) IN (SELECT c0, c1 FROM late_line) OR EXISTS (SELECT FROM late_line WHERE whole)",
        key: "(k1, k2)",
        bound: "(({}::json->>0)::int, ({}::json->>1)::int)",
    },
];

impl Expectation {
    fn differing(&self) -> String {
        let Self { expected, actual, .. } = self;
        format!(
            "SELECT k1, k2 FROM (({expected}) EXCEPT ({actual})) one \
             UNION SELECT k1, k2 FROM (SELECT * FROM ({expected}) none WHERE false UNION ALL (({actual}) EXCEPT ({expected}))) other"
        )
    }

    fn sql(&self, mapping: usize) -> String {
        let Self { dirty, key, bound, .. } = self;
        let bound = |column: &str| bound.replace("{}", column);
        format!(
            "SELECT {mapping}, k1::text, k2::text FROM ({}) differing WHERE NOT ({dirty}) AND EXISTS (SELECT FROM \
             banyan.chunk c WHERE c.mapping = {mapping} AND c.done AND (c.after_key IS NULL OR {key} > {}) \
             AND (c.up_to IS NULL OR {key} <= {}))",
            self.differing(),
            bound("c.after_key"),
            bound("c.up_to")
        )
    }
}

/// Every key of a finished range that differs though nothing of it was logged behind the position.
pub(super) fn violations(variant: &Variant, catalogue: &mut Client) -> String {
    let parts = variant.mappings.iter().enumerate().map(|(at, mapping)| EXPECTATIONS[*mapping].sql(at));
    let parts: Vec<String> = parts.collect();
    let logs = catalogue.query(
        "SELECT c.oid::regclass::text, substring(d.description from 'source\\.(\\w+)') FROM pg_class c \
         JOIN pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass \
         WHERE c.relname LIKE 'log\\_%' AND c.relkind = 'r'",
        &[],
    );
    let late = |row: &postgres::Row| {
        let (log, table): (String, String) = (row.get(0), row.get(1));
        format!(
            "late_{table} AS MATERIALIZED (SELECT * FROM {log}, p WHERE NOT pg_visible_in_snapshot(xid, seen)), "
        )
    };
    let late: String = logs.unwrap().iter().map(late).collect();
    let text = format!(
        "WITH p AS MATERIALIZED (SELECT split_part(pos, ' ', 2)::pg_snapshot AS seen FROM banyan.stream), {}",
        late
    );
    with_key_map(
        &format!("{} {}", text.trim_end().trim_end_matches(','), parts.join(" UNION ALL ")),
        catalogue,
    )
}

/// Every key that differs.
pub(super) fn differences(variant: &Variant, catalogue: &mut Client) -> String {
    let one = |(at, mapping): (usize, &usize)| {
        format!("SELECT {at}, k1::text, k2::text FROM ({}) differing", EXPECTATIONS[*mapping].differing())
    };
    let all = variant.mappings.iter().enumerate().map(one).collect::<Vec<_>>().join(" UNION ALL ");
    with_key_map(&all, catalogue)
}

fn with_key_map(sql: &str, catalogue: &mut Client) -> String {
    let map = "SELECT oid::regclass::text FROM pg_class WHERE relname LIKE 'keys\\_%' AND relkind = 'r'";
    let map = catalogue.query_opt(map, &[]).unwrap().map(|row| row.get::<_, String>(0));
    sql.replace("KEY_MAP", &map.unwrap_or_default())
}

/// Tables that are emptied between two seeds, those that refer to others first.
pub(super) fn every_table(catalogue: &mut Client) -> Vec<String> {
    let all = "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'r' \
        AND c.relnamespace IN ('source'::regnamespace, 'target'::regnamespace, 'banyan'::regnamespace) \
        AND c.relname <> 'heartbeat' ORDER BY c.relname <> 'line', 1";
    catalogue.query(all, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}
