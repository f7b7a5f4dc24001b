//! What the text of a select says without a database: how often it reads a table, whether it takes every row of one, and the
//! same with another schema.
//!
//! Invariant: strings, comments and quoted names are never taken for words of SQL.

mod condition;
mod levels;
mod whole;

pub(crate) use condition::loosened;
pub(crate) use levels::judged_over_keys;
pub(crate) use whole::takes_every_row;

/// A part of a select.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'a> {
    /// A word as it is written.
    Word(&'a str),
    /// What stands in double quotes.
    Quoted(&'a str),
    /// What stands in single quotes.
    Text(&'a str),
    Sign(char),
}

impl Part<'_> {
    fn is_word(self, word: &str) -> bool {
        matches!(self, Self::Word(found) if found.eq_ignore_ascii_case(word))
    }

    fn is_name(self, name: &str) -> bool {
        match self {
            Self::Word(found) => found.eq_ignore_ascii_case(name),
            Self::Quoted(found) => found.replace("\"\"", "\"").eq_ignore_ascii_case(name),
            Self::Text(_) | Self::Sign(_) => false,
        }
    }
}

/// Words behind which a list of tables has ended.
const BEHIND_TABLES: [&str; 12] = [
    "select",
    "where",
    "group",
    "order",
    "having",
    "limit",
    "offset",
    "union",
    "except",
    "intersect",
    "window",
    "fetch",
];

/// How often a table stands among the tables that a select reads; `table` may have a schema in front, which is not compared.
pub(crate) fn references(select: &str, table: &str) -> usize {
    let name = bare(table);
    let parts: Vec<(usize, Part<'_>)> = parts(select);
    let part = |at: usize| parts.get(at).map(|(_, part)| *part);
    let (mut found, mut outer) = (0, Vec::new());
    // Whether a list of tables goes on, and whether its next name is a table's.
    let (mut listing, mut next) = (false, false);
    for at in 0..parts.len() {
        let Some(this) = part(at) else { break };
        let before = at.checked_sub(1).and_then(part);
        match this {
            Part::Sign('(') => {
                outer.push(listing);
                listing = next;
            }
            Part::Sign(')') => (listing, next) = (outer.pop().unwrap_or_default(), false),
            Part::Sign(',') => next = listing,
            // `IS DISTINCT FROM` compares.
            Part::Word(word) if word.eq_ignore_ascii_case("from") => {
                let compares = before.is_some_and(|before| before.is_word("distinct"));
                (listing, next) = (!compares, !compares);
            }
            Part::Word(word) if word.eq_ignore_ascii_case("join") => (listing, next) = (true, true),
            Part::Word(word) if BEHIND_TABLES.iter().any(|end| word.eq_ignore_ascii_case(end)) => {
                (listing, next) = (false, false);
            }
            Part::Word(word) if ["lateral", "only"].iter().any(|other| word.eq_ignore_ascii_case(other)) => {}
            Part::Word(_) | Part::Quoted(_) if next => match part(at + 1) {
                // The schema; the table comes behind the point.
                Some(Part::Sign('.')) => {}
                Some(Part::Sign('(')) => next = false,
                _ => {
                    found += usize::from(this.is_name(name));
                    next = false;
                }
            },
            _ => {}
        }
    }
    found
}

/// Whether a text in quotes is `text`, whatever its letters' case; SQLite takes double quotes for a text's, too.
pub(crate) fn says(select: &str, text: &str) -> bool {
    parts(select).iter().any(|(_, part)| is_text(*part, text))
}

fn is_text(part: Part<'_>, text: &str) -> bool {
    matches!(part, Part::Text(found) | Part::Quoted(found) if found.eq_ignore_ascii_case(text))
}

/// Whether a text such as 'now' is written as a date or a time, of which PostgreSQL makes the time of the clock.
pub(crate) fn reads_clock(select: &str) -> bool {
    let parts: Vec<Part<'_>> = parts(select).into_iter().map(|(_, part)| part).collect();
    let word = |at: Option<usize>| match at.and_then(|at| parts.get(at)) {
        Some(Part::Word(word)) => word.to_lowercase(),
        _ => String::new(),
    };
    let is_time = |at: Option<usize>| ["date", "time"].iter().any(|kind| word(at).starts_with(kind));
    parts.iter().enumerate().any(|(at, part)| {
        let Part::Text(text) = part else { return false };
        let behind = [parts.get(at + 1), parts.get(at + 2)];
        let is_cast = behind == [Some(&Part::Sign(':')); 2] && is_time(Some(at + 3))
            || word(Some(at + 1)) == "as" && is_time(Some(at + 2))
            || is_time(at.checked_sub(1));
        let text = text.trim().to_lowercase();
        is_cast && ["now", "today", "tomorrow", "yesterday"].contains(&text.as_str())
    })
}

/// Whether one of SQLite's functions of dates is called without a time, of which it makes that of the clock: its arguments
/// end, or begin with how exact the time is, behind the first `before` of them.
pub(crate) fn calls_without_time(select: &str, function: &str, before: usize) -> bool {
    let parts: Vec<Part<'_>> = parts(select).into_iter().map(|(_, part)| part).collect();
    (0..parts.len()).any(|at| {
        let (name, open) = (parts.get(at), parts.get(at + 1));
        if !name.is_some_and(|name| name.is_word(function)) || open != Some(&Part::Sign('(')) {
            return false;
        }
        let (mut depth, mut missing) = (0_usize, before);
        for part in parts.iter().skip(at + 2) {
            match part {
                Part::Sign('(') => depth += 1,
                Part::Sign(')') if depth == 0 => return true,
                Part::Sign(')') => depth -= 1,
                Part::Sign(',') if depth == 0 && missing > 0 => missing -= 1,
                _ if missing > 0 => {}
                _ => return is_text(*part, "subsec") || is_text(*part, "subsecond"),
            }
        }
        false
    })
}

/// The select with `schema.table` read as `other.table`.
pub(crate) fn with_schema(select: &str, schema: &str, table: &str, other: &str) -> String {
    let parts = parts(select);
    let name = bare(table);
    let (mut text, mut copied) = (String::with_capacity(select.len()), 0);
    for three in parts.windows(3) {
        let [(start, first), (_, point), (behind, last)] = three else { continue };
        if first.is_name(schema) && *point == Part::Sign('.') && last.is_name(name) {
            text.push_str(select.get(copied..*start).unwrap_or_default());
            text.push_str(other);
            text.push('.');
            copied = *behind;
        }
    }
    text.push_str(select.get(copied..).unwrap_or_default());
    text
}

/// A table's name without its schema.
fn bare(table: &str) -> &str {
    let last = table.rsplit_once('.').map_or(table, |(_, name)| name);
    last.trim_matches('"')
}

/// The parts with where they begin.
fn parts(select: &str) -> Vec<(usize, Part<'_>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = select.get(at..).filter(|rest| !rest.is_empty()) {
        let (length, part) = first(rest);
        if let Some(part) = part {
            found.push((at, part));
        }
        at += length;
    }
    found
}

/// How long the first part is, and what it is; nothing for blanks and comments.
fn first(rest: &str) -> (usize, Option<Part<'_>>) {
    let Some(letter) = rest.chars().next() else { return (rest.len(), None) };
    let until = |end: &str, skip: usize| {
        let behind = rest.get(skip..).unwrap_or_default();
        behind.find(end).map_or(rest.len(), |at| skip + at + end.len())
    };
    if rest.starts_with("--") {
        return (until("\n", 2), None);
    }
    if rest.starts_with("/*") {
        return (until("*/", 2), None);
    }
    match letter {
        '\'' | '"' => {
            let (length, inside) = quoted(rest, letter);
            (length, Some(if letter == '"' { Part::Quoted(inside) } else { Part::Text(inside) }))
        }
        _ if letter.is_whitespace() => (letter.len_utf8(), None),
        _ if is_of_word(letter) => {
            let length = rest.find(|letter| !is_of_word(letter)).unwrap_or(rest.len());
            (length, rest.get(..length).map(Part::Word))
        }
        _ => (letter.len_utf8(), Some(Part::Sign(letter))),
    }
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '$'
}

/// The length of what is quoted, and what stands inside; a quote is doubled there.
fn quoted(rest: &str, quote: char) -> (usize, &str) {
    let (mut at, mut inside) = (1, rest.get(1..).unwrap_or_default());
    loop {
        let Some(end) = inside.find(quote) else { return (rest.len(), rest.get(1..).unwrap_or_default()) };
        at += end + 1;
        inside = rest.get(at..).unwrap_or_default();
        if !inside.starts_with(quote) {
            return (at, rest.get(1..at - 1).unwrap_or_default());
        }
        at += 1;
        inside = rest.get(at..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_counted_where_tables_stand_and_nowhere_else() {
        let cases = [
            ("SELECT t.id FROM a AS t, a AS u WHERE {keys t.id}", 2),
            (
                "SELECT a.id, a.a FROM source.a JOIN \"A\" AS b ON (b.id, 1) = (a.x, 1), c WHERE {keys a.id}",
                2,
            ),
            ("SELECT (SELECT max(x) FROM public.a) FROM b WHERE a IS DISTINCT FROM a", 1),
            ("SELECT 'FROM a' -- FROM a\n FROM b /* , a */ ORDER BY 1, a", 0),
            ("SELECT 1 FROM (a JOIN b USING (id)), LATERAL a(b.id) WHERE x IN (1, a)", 1),
            ("SELECT 1 FROM a WHERE {keys id} UNION ALL SELECT 2 FROM a WHERE {keys id}", 2),
        ];
        for (select, expected) in cases {
            assert_eq!(references(select, "source.a"), expected, "{select}");
        }
    }

    #[test]
    fn only_the_named_table_of_the_named_schema_is_read_elsewhere() {
        let select =
            "SELECT source.a.x, 'source.a' FROM \"source\".\"a\" JOIN source.ab ON source . a.x = b.a";
        assert_eq!(
            with_schema(select, "source", "a", "temp"),
            "SELECT temp.a.x, 'source.a' FROM temp.\"a\" JOIN source.ab ON temp.a.x = b.a"
        );
    }

    #[test]
    fn texts_and_calls_are_told_from_names() {
        assert!(says("SELECT date('NOW', \"utc\")", "now") && !says("SELECT now, 'it''s now'", "now"));
        for clock in ["'now'::timestamp", "date 'TODAY'", "CAST(' yesterday ' AS timestamptz)"] {
            assert!(reads_clock(&format!("SELECT {clock} FROM a")), "{clock}");
        }
        assert!(!reads_clock("SELECT 'now', now::date, '2020-01-01'::date FROM a WHERE b = 'today'"));
    }

    #[test]
    fn a_function_of_dates_without_a_time_reads_the_clock() {
        for (call, before) in [
            ("unixepoch ( )", 0),
            ("unixepoch('Subsec')", 0),
            ("date(\"subsecond\", '+1 day')", 0),
            ("strftime('%Y')", 1),
            ("strftime(coalesce(f, '%s'), 'subsec')", 1),
        ] {
            let function = call.split(['(', ' ']).next().unwrap();
            assert!(calls_without_time(&format!("SELECT {call}"), function, before), "{call}");
        }
        for (call, before) in
            [("unixepoch(at, 'subsec')", 0), ("date((x))", 0), ("strftime('%Y', at)", 1), ("strftime", 1)]
        {
            let function = call.split('(').next().unwrap();
            assert!(!calls_without_time(&format!("SELECT {call} FROM a"), function, before), "{call}");
        }
    }
}
