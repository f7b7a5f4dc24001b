//! Statements made from mappings: names quoted, `{keys …}` and `{values …}` replaced by conditions an index can serve.
//!
//! Invariant: nothing but a mapping's own selects enters a statement unquoted, and values only as parameters.

use crate::engine::KeyRange;
use crate::engine::Mapping;

/// A name in double quotes.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text in single quotes.
pub(super) fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Names in double quotes, each behind a prefix, with commas.
pub(super) fn list(prefix: &str, names: &[String]) -> String {
    names.iter().map(|name| format!("{prefix}{}", quote(name))).collect::<Vec<_>>().join(", ")
}

/// `k1, k2, …`, each behind a prefix.
pub(super) fn numbered(prefix: &str, count: usize) -> String {
    (1..=count).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>().join(", ")
}

/// Expressions as one: a row value if there are several.
pub(super) fn tuple(expressions: &str) -> String {
    if expressions.contains(',') { format!("({expressions})") } else { expressions.to_owned() }
}

/// Replaces every `{word A, B}` by what `condition` makes of `A, B`.
pub(super) fn replace(select: &str, word: &str, condition: impl Fn(&str) -> String) -> String {
    let open = format!("{{{word} ");
    let mut sql = String::with_capacity(select.len() + 128);
    let mut rest = select;
    while let Some((before, after)) = rest.split_once(&open) {
        let (expressions, tail) = after.split_once('}').unwrap_or((after, ""));
        sql.push_str(before);
        sql.push_str(&condition(expressions.trim()));
        rest = tail;
    }
    sql.push_str(rest);
    sql
}

/// The mapping's select for the keys that a subselect gives.
pub(super) fn among(mapping: &Mapping, keys: &str) -> String {
    replace(&mapping.select, "keys", |expressions| format!("{} IN ({keys})", tuple(expressions)))
}

/// The mapping's select for a range, whose bounds are `:after1 …` and `:up_to1 …`.
pub(super) fn ranged(mapping: &Mapping, range: &KeyRange) -> String {
    let width = mapping.root_key.len();
    replace(&mapping.select, "keys", |expressions| within(expressions, width, range))
}

/// The condition that expressions lie in a range.
pub(super) fn within(expressions: &str, width: usize, range: &KeyRange) -> String {
    let left = tuple(expressions);
    let after = range.after.as_ref().map(|_| format!("{left} > {}", tuple(&numbered(":after", width))));
    let up_to = range.up_to.as_ref().map(|_| format!("{left} <= {}", tuple(&numbered(":up_to", width))));
    let conditions: Vec<String> = after.into_iter().chain(up_to).collect();
    if conditions.is_empty() { "1".to_owned() } else { format!("({})", conditions.join(" AND ")) }
}

/// Pairs of expressions that are equal.
pub(super) fn equal(left: &[String], right: &[String]) -> String {
    left.iter().zip(right).map(|(left, right)| format!("{left} = {right}")).collect::<Vec<_>>().join(" AND ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_becomes_a_condition_on_its_own_expressions() {
        let select =
            "SELECT a FROM t WHERE {keys t.id} UNION ALL SELECT b FROM u WHERE '{}' <> x AND {keys u.a, u.b}";
        assert_eq!(
            replace(select, "keys", |expressions| format!("{} IN (?)", tuple(expressions))),
            "SELECT a FROM t WHERE t.id IN (?) UNION ALL SELECT b FROM u WHERE '{}' <> x AND (u.a, u.b) IN (?)"
        );
    }

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quote("a\"; DROP TABLE x; --"), "\"a\"\"; DROP TABLE x; --\"");
        assert_eq!(text("a'; DROP TABLE x; --"), "'a''; DROP TABLE x; --'");
    }
}
