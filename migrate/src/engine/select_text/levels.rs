//! What a select judges over the rows of several keys at once: which rows it makes of a key depends on the keys that are asked
//! for beside it then, and those are others in a chunk, in a batch and in a verification.
//!
//! Invariant: only the select that is restricted by key, those around it, and those that read it by name are looked at; a
//! subselect within them sees the rows of one key.

use std::collections::HashSet;

use super::{Part, parts};

/// The first thing that a select, restricted with `{marker …}`, judges over the rows of several keys.
pub(crate) fn judged_over_keys(select: &str, marker: &str) -> Option<&'static str> {
    let levels = Levels::of(select, marker);
    (0..levels.parts.len()).filter(|at| levels.restricted.contains(&levels.level(*at))).find_map(|at| {
        let word = levels.word(at).filter(|_| !levels.is_name(at))?;
        let behind = levels.word(at + 1).unwrap_or_default();
        match word.as_str() {
            "limit" => Some("LIMIT"),
            // SQLite knows columns of these names.
            "offset" if behind.starts_with(|digit: char| digit.is_ascii_digit()) || levels.opens(at + 1) => {
                Some("OFFSET")
            }
            "fetch" if ["first", "next"].contains(&behind.as_str()) => Some("FETCH"),
            "distinct" if behind == "on" && !levels.names_a_key(at + 3) => Some("DISTINCT ON"),
            "over" if levels.window(at).is_some_and(|open| !levels.is_of_a_key(open)) => {
                Some("a window (OVER)")
            }
            _ => None,
        }
    })
}

struct Levels<'a> {
    parts: Vec<Part<'a>>,
    /// Per part, where the parenthesis opens that holds its select; the outermost has none.
    within: Vec<Option<usize>>,
    /// The columns of each marker, as they are written.
    keys: Vec<Vec<String>>,
    /// The selects that hold several keys' rows.
    restricted: HashSet<Option<usize>>,
}

impl<'a> Levels<'a> {
    fn of(select: &'a str, marker: &str) -> Self {
        let parts: Vec<Part<'a>> = parts(select).into_iter().map(|(_, part)| part).collect();
        let (mut within, mut open) = (Vec::new(), Vec::new());
        for (at, part) in parts.iter().enumerate() {
            if *part == Part::Sign('(') {
                // Other parentheses, as those of a call, belong to the select that they stand in.
                let around = open.last().copied().flatten();
                open.push(if opens_select(&parts, at) { Some(at) } else { around });
            }
            within.push(open.last().copied().flatten());
            if *part == Part::Sign(')') {
                open.pop();
            }
        }
        let mut levels = Self { parts, within, keys: Vec::new(), restricted: HashSet::new() };
        for at in 0..levels.parts.len() {
            if levels.is_sign(at, '{') && levels.is_word(at + 1, marker) {
                levels.keys.push(levels.list(at + 2));
                levels.restrict(at);
            }
        }
        levels
    }

    /// The select that a part stands in, those around it, and those that read one of them by the name it has in WITH.
    fn restrict(&mut self, at: usize) {
        let mut next = self.level(at);
        while self.restricted.insert(next) {
            let Some(open) = next else { return };
            for reader in self.readers(open) {
                self.restrict(reader);
            }
            next = open.checked_sub(1).and_then(|before| self.level(before));
        }
    }

    /// Where what stands in a parenthesis behind `name AS` is named again.
    fn readers(&self, open: usize) -> Vec<usize> {
        let between = |at: &usize| self.is_word(*at, "materialized") || self.is_word(*at, "not");
        let mut before = (0..open).rev().skip_while(between);
        let is_as = before.next().is_some_and(|at| self.is_word(at, "as"));
        let Some(name) = before.next().filter(|_| is_as) else { return Vec::new() };
        // Its columns may be named in between.
        let columns = (0..name).rev().find(|at| self.is_sign(name, ')') && self.opens(*at));
        let name = columns.map_or(name, |columns| columns.saturating_sub(1));
        let Some(name) = self.word(name) else { return Vec::new() };
        let reads = |at: &usize| self.is_word(*at, &name) && !self.is_sign(at + 1, '.');
        (open..self.parts.len()).filter(reads).collect()
    }

    fn level(&self, at: usize) -> Option<usize> {
        self.within.get(at).copied().flatten()
    }

    fn is_sign(&self, at: usize, sign: char) -> bool {
        self.parts.get(at) == Some(&Part::Sign(sign))
    }

    fn opens(&self, at: usize) -> bool {
        self.is_sign(at, '(')
    }

    /// A word or a quoted name in small letters.
    fn word(&self, at: usize) -> Option<String> {
        match self.parts.get(at)? {
            Part::Word(name) | Part::Quoted(name) => Some(name.to_lowercase()),
            Part::Text(_) | Part::Sign(_) => None,
        }
    }

    fn is_word(&self, at: usize, word: &str) -> bool {
        self.word(at).is_some_and(|found| found == word)
    }

    /// Whether a word can only be a name where it stands.
    fn is_name(&self, at: usize) -> bool {
        let quoted = matches!(self.parts.get(at), Some(Part::Quoted(_)));
        let Some(before) = at.checked_sub(1) else { return quoted };
        quoted || self.is_word(before, "as") || ['.', '[', '`'].iter().any(|sign| self.is_sign(before, *sign))
    }

    /// The expressions of a list from a part on, up to where it ends.
    fn list(&self, from: usize) -> Vec<String> {
        const BEHIND: [&str; 4] = ["order", "rows", "range", "groups"];
        let (mut listed, mut one, mut depth) = (Vec::new(), String::new(), 0_u32);
        for (at, part) in self.parts.iter().enumerate().skip(from) {
            match part {
                Part::Sign('}' | ')') if depth == 0 => break,
                Part::Sign(',') if depth == 0 => listed.push(std::mem::take(&mut one)),
                Part::Sign(sign) => {
                    depth = depth + u32::from(*sign == '(') - u32::from(*sign == ')');
                    one.push(*sign);
                }
                Part::Text(text) => one.push_str(text),
                Part::Word(_) | Part::Quoted(_) => match self.word(at).unwrap_or_default() {
                    word if BEHIND.contains(&word.as_str()) && !self.is_name(at) => break,
                    word => one.push_str(&word),
                },
            }
        }
        listed.push(one);
        listed
    }

    /// Whether a list of columns holds a whole key; one without its table is taken for the key's of that name.
    fn names_a_key(&self, from: usize) -> bool {
        let listed = self.list(from);
        let bare = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
        let same = |one: &str, key: &str| {
            one == key || (!one.contains('.') || !key.contains('.')) && bare(one) == bare(key)
        };
        self.keys.iter().any(|key| key.iter().all(|column| listed.iter().any(|one| same(one, column))))
    }

    /// Where the definition of the window behind OVER opens, which may stand elsewhere under a name.
    fn window(&self, over: usize) -> Option<usize> {
        // Behind anything else it is a name.
        over.checked_sub(1).filter(|before| self.is_sign(*before, ')'))?;
        if self.opens(over + 1) {
            return Some(over + 1);
        }
        let name = self.word(over + 1)?;
        let defines =
            |at: &usize| self.is_word(*at, &name) && self.is_word(at + 1, "as") && self.opens(at + 2);
        (0..self.parts.len()).find(defines).map(|at| at + 2)
    }

    /// Whether a window is partitioned by a whole key.
    fn is_of_a_key(&self, open: usize) -> bool {
        self.is_word(open + 1, "partition") && self.names_a_key(open + 3)
    }
}

/// Whether a subselect begins behind a parenthesis.
fn opens_select(parts: &[Part<'_>], at: usize) -> bool {
    let opens = |first: &Part<'_>| ["select", "with", "values"].iter().any(|word| first.is_word(word));
    parts.get(at + 1).is_some_and(opens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(select: &str) -> Option<&'static str> {
        judged_over_keys(select, "keys")
    }

    #[test]
    fn what_is_judged_over_the_rows_of_several_keys_is_told() {
        for (select, what) in [
            ("SELECT id FROM a WHERE {keys id} ORDER BY id LIMIT 10", "LIMIT"),
            ("SELECT * FROM (SELECT id FROM a WHERE ({keys id})) AS q limit 1", "LIMIT"),
            ("SELECT * LIMIT 1 -- {keys a}\n, (SELECT 1 WHERE {keys id})", "LIMIT"),
            ("SELECT id FROM a WHERE {keys id} OFFSET (SELECT 1)", "OFFSET"),
            ("SELECT id FROM a WHERE {keys id} ORDER BY b OFFSET 5", "OFFSET"),
            ("SELECT id FROM a WHERE {keys id} FETCH FIRST ROW ONLY", "FETCH"),
            ("SELECT DISTINCT ON (b, a.c) id FROM a WHERE {keys a.id}", "DISTINCT ON"),
            ("SELECT DISTINCT ON (a.id) id FROM a WHERE {keys a.id, a.b}", "DISTINCT ON"),
            ("SELECT lag(b) OVER (ORDER BY id) FROM a WHERE {keys id}", "a window (OVER)"),
            (
                "SELECT count(*) over (partition by b.id order by a.id) FROM a, b WHERE {keys a.id}",
                "a window (OVER)",
            ),
            ("SELECT id, (row_number() OVER ())::text FROM a WHERE {keys id}", "a window (OVER)"),
            ("SELECT id, coalesce(lag(b) OVER (ORDER BY id), '') FROM a WHERE {keys id}", "a window (OVER)"),
            ("SELECT lag(b) OVER w FROM a WHERE {keys id} WINDOW w AS (ORDER BY id)", "a window (OVER)"),
            (
                "WITH w(id) AS NOT MATERIALIZED (SELECT id FROM a WHERE {keys id}), v AS (SELECT sum(id) OVER () FROM w) \
                 SELECT * FROM v",
                "a window (OVER)",
            ),
        ] {
            assert_eq!(judged(select), Some(what), "{select}");
        }
    }

    #[test]
    fn what_is_judged_over_the_rows_of_one_key_is_not() {
        for select in [
            "SELECT a.id, n.x FROM a, LATERAL (SELECT x FROM b WHERE b.a = a.id ORDER BY at LIMIT 1 OFFSET 1) n WHERE {keys a.id}",
            "SELECT a.id, n.x FROM a, LATERAL ((SELECT coalesce(x, '') FROM b WHERE b.a = a.id LIMIT 1)) n WHERE ({keys a.id})",
            "SELECT id, (SELECT max(x) OVER () FROM b WHERE b.a = a.id LIMIT 1) FROM a WHERE {keys a.id}",
            "SELECT rank() OVER (PARTITION BY x, A.ID ORDER BY c), a.id FROM a WHERE {keys a.id}",
            "SELECT rank() OVER (PARTITION BY lower(a.x), b ORDER BY c) FROM a WHERE {keys b, lower(a.x)}",
            "SELECT rank() OVER w FROM a WHERE {keys a.id, \"B\"} WINDOW w AS (PARTITION BY b, id ROWS 1 PRECEDING)",
            "SELECT DISTINCT ON (id) id, x FROM a WHERE {keys a.id} ORDER BY id, x",
            "SELECT DISTINCT id, a.limit, 'LIMIT', \"limit\" AS limit, offset, over, fetch FROM a WHERE {keys id} -- LIMIT 1",
            "WITH first AS (SELECT id FROM b LIMIT 1) SELECT a.id FROM a, first WHERE {keys a.id}",
        ] {
            assert_eq!(judged(select), None, "{select}");
        }
    }
}
