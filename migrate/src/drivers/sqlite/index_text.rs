//! The terms and the condition of an index, from the text that made it: SQLite tells of expressions nowhere else.
//!
//! Invariants: quotes, comments and parentheses never end a term; what is told has no comment, which would hide whatever is put
//! behind it.

/// Terms without their sort order, and the condition of a partial index.
pub(super) fn parts(sql: &str) -> (Vec<String>, Option<String>) {
    let sql = without_comments(sql);
    let (mut terms, mut depth, mut start, mut end, mut at) = (Vec::new(), 0_u32, 0, sql.len(), 0);
    for token in tokens(&sql) {
        match token {
            "(" => {
                depth += 1;
                if depth == 1 {
                    start = at + 1;
                }
            }
            "," if depth == 1 => {
                terms.push(term(sql.get(start..at).unwrap_or_default()));
                start = at + 1;
            }
            ")" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    terms.push(term(sql.get(start..at).unwrap_or_default()));
                    end = at + 1;
                    break;
                }
            }
            _ => {}
        }
        at += token.len();
    }
    let rest = sql.get(end..).unwrap_or_default().trim();
    let condition = rest.get(..5).filter(|word| word.eq_ignore_ascii_case("where"));
    (terms, condition.and_then(|_| rest.get(5..)).map(|condition| condition.trim().to_owned()))
}

/// The same text with a space for each comment.
pub(super) fn without_comments(sql: &str) -> String {
    tokens(sql).map(|token| if is_comment(token) { " " } else { token }).collect()
}

/// A column's default as an expression. A bare name, however it is quoted, is its text there, and would be a column elsewhere.
pub(super) fn default_value(text: &str) -> String {
    let text = without_comments(text);
    let text = text.trim();
    let keyword = ["null", "true", "false", "current_time", "current_date", "current_timestamp"];
    let letter = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '$';
    let bare = !text.starts_with(|letter: char| letter.is_ascii_digit()) && text.chars().all(letter);
    let quoted = text.strip_prefix(['"', '`', '[']).and_then(|rest| rest.strip_suffix(['"', '`', ']']));
    match quoted {
        Some(name) => super::sql::text(&name.replace("\"\"", "\"")),
        None if bare && !keyword.iter().any(|keyword| text.eq_ignore_ascii_case(keyword)) => {
            super::sql::text(text)
        }
        None => format!("({text})"),
    }
}

fn term(text: &str) -> String {
    let text = text.trim();
    for order in ["asc", "desc"] {
        let (name, tail) =
            text.split_at_checked(text.len().saturating_sub(order.len())).unwrap_or((text, ""));
        let is_apart =
            name.ends_with(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '$');
        if tail.eq_ignore_ascii_case(order) && is_apart {
            return name.trim().to_owned();
        }
    }
    text.to_owned()
}

fn is_comment(token: &str) -> bool {
    token.starts_with("--") || token.starts_with("/*")
}

/// Whole comments and quoted texts, and the letters between them one by one.
fn tokens(mut rest: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let (skipped, last) = match first {
            '\'' | '"' | '`' => (1, rest.get(..1)?),
            '[' => (1, "]"),
            '-' if rest.starts_with("--") => (2, "\n"),
            '/' if rest.starts_with("/*") => (2, "*/"),
            _ => (0, ""),
        };
        let length = match rest.get(skipped..).and_then(|inside| inside.find(last)) {
            _ if skipped == 0 => first.len_utf8(),
            Some(found) => skipped + found + last.len(),
            None => rest.len(),
        };
        let (token, behind) = rest.split_at_checked(length)?;
        rest = behind;
        Some(token)
    })
}

#[cfg(test)]
mod tests {
    use super::{default_value, parts};

    #[test]
    fn terms_and_condition_are_found_whatever_stands_in_quotes() {
        let sql = "CREATE UNIQUE INDEX \"i(\" ON t (lower(a || ',)') COLLATE nocase DESC, \"b,\" /* ), */ , c ASC, (d)desc) -- x\n WHERE d IN ('(', 2)";
        let (terms, condition) = parts(sql);
        assert_eq!(terms, ["lower(a || ',)') COLLATE nocase", "\"b,\"", "c", "(d)"]);
        assert_eq!(condition.as_deref(), Some("d IN ('(', 2)"));
        assert_eq!(parts("CREATE UNIQUE INDEX i ON t(a)").1, None);
    }

    #[test]
    fn comments_are_left_out_so_that_none_hides_what_is_put_behind() {
        let (terms, condition) =
            parts("CREATE UNIQUE INDEX i ON t (a -- the (first\n || '--', b /* desc */) where n > 0 -- why");
        assert_eq!(
            (terms, condition.as_deref()),
            (vec!["a   || '--'".to_owned(), "b".to_owned()], Some("n > 0"))
        );
    }

    #[test]
    fn a_default_that_is_a_bare_name_is_a_text() {
        let defaults =
            ["'d'", "d", "\"d \"\"e\"", "[d]", "TRUE", "-5", "1 -- x", "lower('A')", "CURRENT_TIME", "x'61'"];
        let expected = [
            "('d')",
            "'d'",
            "'d \"e'",
            "'d'",
            "(TRUE)",
            "(-5)",
            "(1)",
            "(lower('A'))",
            "(CURRENT_TIME)",
            "(x'61')",
        ];
        assert_eq!(defaults.map(default_value), expected);
    }
}
