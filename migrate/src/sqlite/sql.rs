//! Statements made from a manifest: names quoted, `{keys …}` replaced by a condition that an index can serve.
//!
//! Invariant: nothing but the manifest's own selects enters a statement unquoted, and values only as parameters.

use rusqlite::ToSql;
use rusqlite::types::Value;

use crate::flow::End;
use crate::manifest::{KEYS_OPEN, TableMap};

/// Keys after one (exclusive) up to another (inclusive); an absent bound is no bound.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeyRange {
    /// Exclusive lower bound.
    pub after: Option<Value>,
    /// Inclusive upper bound.
    pub up_to: Option<Value>,
}

/// Which keys a statement is restricted to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keys<'a> {
    /// Those in the temporary table.
    Staged,
    /// A range.
    Range(&'a KeyRange),
    /// One.
    One(&'a Value),
}

impl Keys<'_> {
    /// The condition on an expression.
    pub(crate) fn condition(self, expression: &str) -> String {
        match self {
            Self::Staged => format!("{expression} IN (SELECT key FROM temp.banyan_keys)"),
            Self::One(_) => format!("{expression} = :key"),
            Self::Range(range) => match (&range.after, &range.up_to) {
                (None, None) => "1".to_owned(),
                (Some(_), None) => format!("{expression} > :after"),
                (None, Some(_)) => format!("{expression} <= :up_to"),
                (Some(_), Some(_)) => format!("({expression} > :after AND {expression} <= :up_to)"),
            },
        }
    }

    /// The parameters that the condition names.
    pub(crate) fn params(&self) -> Vec<(&'static str, &dyn ToSql)> {
        match self {
            Self::Staged => Vec::new(),
            Self::One(key) => vec![(":key", *key as &dyn ToSql)],
            Self::Range(range) => {
                let after = range.after.as_ref().map(|value| (":after", value as &dyn ToSql));
                let up_to = range.up_to.as_ref().map(|value| (":up_to", value as &dyn ToSql));
                after.into_iter().chain(up_to).collect()
            }
        }
    }
}

/// A name in double quotes.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table of one end.
pub(crate) fn table(end: End, name: &str) -> String {
    format!("{}.{}", end.schema(), quote(name))
}

/// Names in double quotes, with commas.
pub(crate) fn list(names: &[String]) -> String {
    names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
}

/// A mapping's select, restricted to keys.
pub(crate) fn restrict(select: &str, keys: Keys<'_>) -> String {
    let mut sql = String::with_capacity(select.len() + 64);
    let mut rest = select;
    while let Some((before, after)) = rest.split_once(KEYS_OPEN) {
        sql.push_str(before);
        let (expression, tail) = after.split_once('}').unwrap_or((after, ""));
        sql.push_str(&keys.condition(expression.trim()));
        rest = tail;
    }
    sql.push_str(rest);
    sql
}

/// Writes a mapping's rows for those keys.
pub(crate) fn insert(end: End, map: &TableMap, keys: Keys<'_>) -> String {
    format!(
        "INSERT INTO {} ({})\n{}",
        table(end, &map.table),
        list(&map.columns),
        restrict(&map.select, keys)
    )
}

/// What a mapping says the table should hold, in key order.
pub(crate) fn mapped(map: &TableMap, keys: Keys<'_>) -> String {
    let select = restrict(&map.select, keys);
    let (names, columns, order) = (list(&map.columns), comparable(map), key_order(map));
    format!("WITH m ({names}) AS (\n{select}\n) SELECT {columns} FROM m ORDER BY {order}")
}

/// What the table does hold, in key order.
pub(crate) fn stored(end: End, map: &TableMap, keys: Keys<'_>) -> String {
    let condition = keys.condition(&quote(map.root_key()));
    let (columns, table, order) = (comparable(map), table(end, &map.table), key_order(map));
    format!("SELECT {columns} FROM {table} WHERE {condition} ORDER BY {order}")
}

/// The columns as they are compared: JSON in SQLite's canonical form, what is no JSON as it stands.
fn comparable(map: &TableMap) -> String {
    let column = |name: &String| {
        let quoted = quote(name);
        if map.json.contains(name) {
            format!("CASE WHEN json_valid({quoted}) THEN json({quoted}) ELSE {quoted} END")
        } else {
            quoted
        }
    };
    map.columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

/// BINARY whatever the columns' collations, since both sides are merged in that order.
fn key_order(map: &TableMap) -> String {
    map.key.iter().map(|name| format!("{} COLLATE BINARY", quote(name))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_becomes_a_condition_on_its_own_column() {
        let select =
            "SELECT a FROM t WHERE {keys t.id} UNION ALL SELECT b FROM u WHERE '{}' <> x AND {keys u.t_id}";
        let range = KeyRange { after: Some(Value::Integer(3)), up_to: Some(Value::Integer(9)) };
        assert_eq!(
            restrict(select, Keys::Range(&range)),
            "SELECT a FROM t WHERE (t.id > :after AND t.id <= :up_to) UNION ALL SELECT b FROM u WHERE '{}' <> x \
             AND (u.t_id > :after AND u.t_id <= :up_to)"
        );
        assert_eq!(Keys::Range(&range).params().len(), 2);
        assert!(Keys::Range(&KeyRange::default()).params().is_empty());
        assert!(restrict(select, Keys::Staged).contains("u.t_id IN (SELECT key FROM temp.banyan_keys)"));
    }

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quote("a\"; DROP TABLE x; --"), "\"a\"\"; DROP TABLE x; --\"");
    }
}
