//! Text of statements: names and values quoted, `{keys …}` and `{values …}` replaced.
//!
//! Invariant: only a manifest's own selects enter a statement unquoted.

use crate::error::MigrateError;

/// A name in double quotes.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text value; `standard_conforming_strings` is on.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Items with commas between them.
pub(super) fn list<I>(items: I) -> String
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    items.into_iter().map(|item| item.as_ref().to_owned()).collect::<Vec<_>>().join(", ")
}

/// Names in double quotes, with a prefix before each.
pub(super) fn columns(prefix: &str, names: &[String]) -> Vec<String> {
    names.iter().map(|name| format!("{prefix}{}", quote(name))).collect()
}

/// `prefix1, prefix2 …`
pub(super) fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("{prefix}{number}")).collect()
}

/// Left and right equal, one by one.
pub(super) fn equal(left: &[String], right: &[String]) -> String {
    let pairs = left.iter().zip(right).map(|(left, right)| format!("{left} = {right}"));
    pairs.collect::<Vec<_>>().join(" AND ")
}

/// One expression, or a row of them.
pub(super) fn row(expressions: &[String]) -> String {
    match expressions {
        [one] => one.clone(),
        more => format!("ROW({})", list(more)),
    }
}

/// Replaces each `{word A, B}` by what `condition` makes of A, B.
pub(super) fn restrict(
    select: &str,
    word: &str,
    condition: &dyn Fn(&[String]) -> String,
) -> Result<String, MigrateError> {
    let open = format!("{{{word} ");
    let (mut sql, mut rest, mut found) = (String::with_capacity(select.len() + 128), select, false);
    while let Some((before, after)) = rest.split_once(&open) {
        let (expressions, tail) = after.split_once('}').unwrap_or((after, ""));
        sql.push_str(before);
        sql.push_str(&condition(&split(expressions)));
        (rest, found) = (tail, true);
    }
    sql.push_str(rest);
    if found {
        return Ok(sql);
    }
    Err(MigrateError::Usage(format!(
        "a select has no {{{word} …}} by which it could be restricted: {select}"
    )))
}

/// Splits at commas that stand in no parentheses and no quotes.
fn split(expressions: &str) -> Vec<String> {
    let (mut parts, mut part, mut depth, mut quoted) = (Vec::new(), String::new(), 0_i32, None);
    for character in expressions.chars() {
        match (quoted, character) {
            (Some(quote), _) if quote == character => quoted = None,
            (None, '\'' | '"') => quoted = Some(character),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => depth -= 1,
            (None, ',') if depth == 0 => {
                parts.push(std::mem::take(&mut part).trim().to_owned());
                continue;
            }
            _ => {}
        }
        part.push(character);
    }
    parts.push(part.trim().to_owned());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_gets_its_own_expressions() {
        let select = "SELECT 1 FROM t WHERE {keys t.a, f(t.b, ',')} UNION SELECT 2 FROM u WHERE {keys u.x}";
        let sql = restrict(select, "keys", &|expressions| format!("<{}>", expressions.join("|"))).unwrap();
        assert_eq!(sql, "SELECT 1 FROM t WHERE <t.a|f(t.b, ',')> UNION SELECT 2 FROM u WHERE <u.x>");
        assert!(restrict("SELECT 1", "keys", &|_| String::new()).is_err());
    }

    #[test]
    fn names_and_values_cannot_leave_their_quotes() {
        assert_eq!((quote("a\"b"), literal("a'b")), ("\"a\"\"b\"".to_owned(), "'a''b'".to_owned()));
    }
}
