//! The terms and the condition of an index, from the text that made it: SQLite tells of expressions nowhere else.
//!
//! Invariant: quotes, comments and parentheses never end a term.

/// Terms without their sort order, and the condition of a partial index.
pub(super) fn parts(sql: &str) -> (Vec<String>, Option<String>) {
    let (mut terms, mut depth, mut start, mut end) = (Vec::new(), 0_u32, 0, sql.len());
    for (at, symbol) in symbols(sql) {
        match symbol {
            b'(' => {
                depth += 1;
                if depth == 1 {
                    start = at + 1;
                }
            }
            b',' if depth == 1 => {
                terms.push(term(sql.get(start..at).unwrap_or_default()));
                start = at + 1;
            }
            b')' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    terms.push(term(sql.get(start..at).unwrap_or_default()));
                    end = at + 1;
                    break;
                }
            }
            _ => {}
        }
    }
    let rest = sql.get(end..).unwrap_or_default().trim();
    let condition = rest.get(..5).filter(|word| word.eq_ignore_ascii_case("where"));
    (terms, condition.and_then(|_| rest.get(5..)).map(|condition| condition.trim().to_owned()))
}

fn term(text: &str) -> String {
    let text = text.trim();
    for order in [" asc", " desc"] {
        let cut = text.len().saturating_sub(order.len());
        if text.get(cut..).is_some_and(|tail| tail.eq_ignore_ascii_case(order)) {
            return text.get(..cut).unwrap_or_default().trim().to_owned();
        }
    }
    text.to_owned()
}

/// Parentheses and commas outside of quotes and comments, with their places.
fn symbols(sql: &str) -> Vec<(usize, u8)> {
    let (mut found, mut rest) = (Vec::new(), sql.bytes().enumerate().peekable());
    while let Some((at, byte)) = rest.next() {
        let next = rest.peek().map(|(_, byte)| *byte);
        match (byte, next) {
            (b'\'' | b'"' | b'`', _) => while rest.next().is_some_and(|(_, other)| other != byte) {},
            (b'[', _) => while rest.next().is_some_and(|(_, other)| other != b']') {},
            (b'-', Some(b'-')) => while rest.next().is_some_and(|(_, other)| other != b'\n') {},
            (b'/', Some(b'*')) => {
                rest.next();
                while rest
                    .next()
                    .is_some_and(|(_, byte)| byte != b'*' || rest.peek().is_none_or(|next| next.1 != b'/'))
                {
                }
            }
            (b'(' | b')' | b',', _) => found.push((at, byte)),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn terms_and_condition_are_found_whatever_stands_in_quotes() {
        let sql = "CREATE UNIQUE INDEX \"i(\" ON t (lower(a || ',)') COLLATE nocase DESC, \"b,\" /* ), */ , c ASC) -- x\n WHERE d IN ('(', 2)";
        let (terms, _) = parts(sql);
        assert_eq!(terms, ["lower(a || ',)') COLLATE nocase", "\"b,\" /* ), */", "c"]);
        let (terms, condition) = parts("create unique index i on t(a) where d in ('(', 2)");
        assert_eq!((terms, condition.as_deref()), (vec!["a".to_owned()], Some("d in ('(', 2)")));
        assert_eq!(parts("CREATE UNIQUE INDEX i ON t(a)").1, None);
    }
}
