//! Whether `{keys …}` restricts the select that it stands in: whether each row must meet it.
//!
//! Invariant: what stands in parentheses, or between CASE and END, beside it is a condition of its own.

use super::{Part, parts};

/// NOT or OR, if by it a select also takes rows that do not meet its `{marker …}`.
pub(crate) fn loosened(select: &str, marker: &str) -> Option<&'static str> {
    let parts: Vec<Part<'_>> = parts(select).into_iter().map(|(_, part)| part).collect();
    let is_marker = |at: &usize| {
        parts.get(*at) == Some(&Part::Sign('{')) && parts.get(at + 1).is_some_and(|part| part.is_word(marker))
    };
    (0..parts.len()).filter(is_marker).find_map(|at| loosened_at(&parts, at))
}

fn loosened_at(parts: &[Part<'_>], marker: usize) -> Option<&'static str> {
    let length = parts.iter().skip(marker).position(|part| *part == Part::Sign('}'))?;
    let (mut from, mut behind) = (marker, marker + length + 1);
    loop {
        let before = parts.get(..from)?;
        if before.last().is_some_and(|part| part.is_word("not")) {
            return Some("NOT");
        }
        let left = beside(before.iter().rev(), [')', '('], ["end", "case"]);
        let right = beside(parts.get(behind..)?.iter(), ['(', ')'], ["case", "end"]);
        if left.or || right.or {
            return Some("OR");
        }
        // A parenthesis in which nothing but conditions stand is one itself.
        match (left.parenthesis, right.parenthesis) {
            (Some(open), Some(close)) => (from, behind) = (from - open - 1, behind + close + 1),
            _ => return None,
        }
    }
}

struct Beside {
    or: bool,
    /// How many parts lie before the parenthesis that ends the condition, if one does.
    parenthesis: Option<usize>,
}

/// What follows within the same condition.
fn beside<'a>(
    parts: impl Iterator<Item = &'a Part<'a>>,
    [opens, closes]: [char; 2],
    [begins, ends]: [&str; 2],
) -> Beside {
    const CLAUSES: [&str; 12] = [
        "select",
        "from",
        "where",
        "on",
        "having",
        "group",
        "order",
        "limit",
        "union",
        "except",
        "intersect",
        "window",
    ];
    let (mut depth, mut or) = (0_usize, false);
    for (at, part) in parts.enumerate() {
        match part {
            Part::Sign(sign) if *sign == opens => depth += 1,
            Part::Sign(sign) if *sign == closes && depth == 0 => return Beside { or, parenthesis: Some(at) },
            Part::Sign(sign) if *sign == closes => depth -= 1,
            _ if part.is_word(begins) => depth += 1,
            _ if part.is_word(ends) => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            _ if CLAUSES.iter().any(|clause| part.is_word(clause)) => break,
            _ => or |= part.is_word("or"),
        }
    }
    Beside { or, parenthesis: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_restrict_a_select_unless_not_or_or_takes_other_rows_as_well() {
        for (select, by) in [
            ("SELECT id FROM a WHERE NOT {keys id}", "NOT"),
            ("SELECT id FROM a WHERE b = 1 AND NOT (c = 2 AND ({keys id}))", "NOT"),
            ("SELECT id FROM a WHERE {keys a.id} AND b = 1 OR b = 2 ORDER BY id", "OR"),
            ("SELECT id FROM a WHERE b = 2 or (c IS NULL) AND {keys id, (n)}", "OR"),
            ("SELECT id FROM a WHERE (b = 1 AND ({keys id})) OR (b = 2)", "OR"),
            ("SELECT id FROM a JOIN b ON b.a = a.id OR {keys a.id}", "OR"),
            ("SELECT id FROM a WHERE {keys id} UNION ALL SELECT id FROM b WHERE {keys id} OR true", "OR"),
        ] {
            assert_eq!(loosened(select, "keys"), Some(by), "{select}");
        }
        for select in [
            "SELECT id FROM a WHERE (b = 1 OR c = 2) AND ({keys id}) AND NOT d",
            "SELECT a OR b FROM a JOIN b ON a.x = b.y OR a.y = b.y WHERE {keys id} GROUP BY a OR b",
            "SELECT id FROM a WHERE CASE WHEN b OR c THEN d ELSE e END AND {keys id} AND CASE WHEN b OR c THEN d END",
            "SELECT id FROM a WHERE {keys id} UNION ALL SELECT id FROM b WHERE b = ' OR ' AND {keys id} -- OR b",
            "SELECT id FROM (SELECT id FROM a WHERE {keys id}) AS a WHERE id > 1 OR id < 1",
        ] {
            assert_eq!(loosened(select, "keys"), None, "{select}");
        }
    }
}
