//! Pieces of SQL: quoting, and the places in selects that are restricted.
//!
//! Invariant: no name and no value enters a statement without one of the two quotings.

use crate::engine::{Bound, KeyRange};
use crate::error::MigrateError;

/// A name.
pub(super) fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A value; `standard_conforming_strings` is on in every session.
pub(super) fn value(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Names in a list, each behind a prefix.
pub(super) fn names<S: AsRef<str>>(prefix: &str, columns: &[S]) -> String {
    let columns: Vec<String> =
        columns.iter().map(|column| format!("{prefix}{}", name(column.as_ref()))).collect();
    columns.join(", ")
}

/// `prefix0, prefix1, …`
pub(super) fn numbered(prefix: &str, count: usize) -> String {
    let columns: Vec<String> = (0..count).map(|at| format!("{prefix}{at}")).collect();
    columns.join(", ")
}

/// A bound's values.
pub(super) fn bound_values(bound: &Bound) -> Result<Vec<String>, MigrateError> {
    serde_json::from_str(&bound.0)
        .map_err(|_| MigrateError::failed(format!("`{}` is no key of PostgreSQL's driver", bound.0)))
}

/// SQL for "within the range": `columns` stand for the key, `casts` make values of texts.
pub(super) fn within(columns: &str, casts: &[String], range: &KeyRange) -> Result<String, MigrateError> {
    let mut conditions = Vec::new();
    for (operator, bound) in [(">", &range.after), ("<=", &range.up_to)] {
        if let Some(bound) = bound {
            conditions.push(format!("({columns}) {operator} ({})", bound_values_as(bound, casts)?));
        }
    }
    Ok(if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") })
}

/// A bound's values as SQL of the types that `casts` name.
pub(super) fn bound_values_as(bound: &Bound, casts: &[String]) -> Result<String, MigrateError> {
    let values = bound_values(bound)?;
    if values.len() != casts.len() {
        return Err(MigrateError::failed(format!("the key {} has not {} columns", bound.0, casts.len())));
    }
    let values: Vec<String> =
        values.iter().zip(casts).map(|(text, cast)| format!("{}{cast}", value(text))).collect();
    Ok(values.join(", "))
}

/// Replaces every `{word A, B}` by what `replacement` makes of `A, B`. Refused if there is none.
pub(super) fn fill(
    select: &str,
    word: &str,
    mut replacement: impl FnMut(&str) -> String,
) -> Result<String, MigrateError> {
    let open = format!("{{{word} ");
    let (mut text, mut rest, mut found) = (String::new(), select, false);
    while let Some((before, behind)) = rest.split_once(&open) {
        let Some((inside, after)) = behind.split_once('}') else { break };
        text.push_str(before);
        text.push_str(&replacement(inside.trim()));
        (rest, found) = (after, true);
    }
    if !found {
        return Err(MigrateError::Usage(format!(
            "the select must be restricted with {{{word} COLUMN, …}} where it picks keys: {select}"
        )));
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_within_names_and_values_are_doubled() {
        assert_eq!(name("a\"b"), "\"a\"\"b\"");
        assert_eq!(value("it's"), "'it''s'");
    }

    #[test]
    fn every_restricted_place_is_filled() {
        let filled = fill("a {keys x, y} b {keys z}", "keys", |inside| format!("<{inside}>")).unwrap();
        assert_eq!(filled, "a <x, y> b <z>");
        assert!(fill("SELECT 1", "keys", |_| String::new()).is_err());
    }
}
