//! Whether a select takes every row of a table.
//!
//! Invariant: where the text does not tell, it does not.

use super::{Part, bare, parts};

/// Whether a select, restricted with `{keys …}` and by nothing else, begins with the table and keeps each row of it.
pub(crate) fn takes_every_row(select: &str, table: &str) -> bool {
    let outer = outermost(select);
    let part = |at: usize| outer.get(at).copied();
    let is = |at: usize, word: &str| part(at).is_some_and(|part| part.is_word(word));
    let places = |word: &str| (0..outer.len()).filter(|at| is(*at, word)).collect::<Vec<_>>();
    let compares = |at: usize| at.checked_sub(1).is_some_and(|before| is(before, "distinct"));
    let from = places("from").into_iter().find(|at| !compares(*at));
    let wheres = places("where");
    let (Some(from), [place]) = (from, wheres.as_slice()) else { return false };
    let name = if part(from + 2) == Some(Part::Sign('.')) { from + 3 } else { from + 1 };
    if is(0, "with") || !part(name).is_some_and(|part| part.is_name(bare(table))) {
        return false;
    }
    let is_left = |join: usize| {
        let kind = if is(join - 1, "outer") { join - 2 } else { join - 1 };
        is(kind, "left") || is(kind, "full")
    };
    let between = from..*place;
    let narrows = |at: usize| {
        part(at) == Some(Part::Sign(',')) || is(at, "tablesample") || is(at, "join") && !is_left(at)
    };
    if between.is_empty() || between.into_iter().any(narrows) || part(place + 1) != Some(Part::Sign('{')) {
        return false;
    }
    let ends =
        part(place + 2).is_none_or(|next| ["group", "order", "window"].iter().any(|word| next.is_word(word)));
    let cuts = ["having", "limit", "offset", "fetch", "union", "except", "intersect"];
    ends && !cuts.iter().any(|word| !places(word).is_empty())
}

/// The parts that stand in no parenthesis, and the parentheses' beginnings.
fn outermost(select: &str) -> Vec<Part<'_>> {
    let (mut depth, mut outer) = (0_usize, Vec::new());
    for (_, part) in parts(select) {
        match part {
            Part::Sign(')' | '}') => depth = depth.saturating_sub(1),
            _ if depth > 0 && !matches!(part, Part::Sign('(' | '{')) => {}
            _ => {
                if depth == 0 {
                    outer.push(part);
                }
                depth += usize::from(matches!(part, Part::Sign('(' | '{')));
            }
        }
    }
    outer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_taken_if_nothing_but_the_keys_picks_them() {
        for select in [
            "SELECT b.id, (SELECT max(x) FROM c WHERE c.b = b.id) FROM blog b WHERE {keys b.id, b.n}",
            "SELECT b.id, coalesce(p.name, ',') FROM source.blog AS b LEFT OUTER JOIN person p ON p.id = b.author AND p.n > 1 \
             LEFT JOIN LATERAL (SELECT 1 WHERE true LIMIT 1) x ON true WHERE {keys b.id} GROUP BY b.id",
            "SELECT a IS DISTINCT FROM b, \"from\" FROM public.\"blog\" WHERE {keys id} -- AND false",
        ] {
            assert!(takes_every_row(select, "blog"), "{select}");
        }
        for select in [
            "SELECT id FROM blog WHERE title <> 'draft' AND {keys id}",
            "SELECT id FROM blog WHERE {keys id} AND title <> 'draft'",
            "SELECT b.id FROM blog b JOIN person p ON p.id = b.author WHERE {keys b.id}",
            "SELECT b.id FROM blog b, person p WHERE {keys b.id}",
            "SELECT b.id FROM person p LEFT JOIN blog b ON p.id = b.author WHERE {keys b.id}",
            "SELECT id FROM (SELECT * FROM blog WHERE title <> 'draft') blog WHERE {keys id}",
            "WITH blog AS (SELECT * FROM blog WHERE title <> 'draft') SELECT id FROM blog WHERE {keys id}",
            "SELECT id FROM blog WHERE {keys id} GROUP BY id HAVING min(title) <> 'draft'",
            "SELECT id FROM blog WHERE {keys id} EXCEPT SELECT id FROM draft",
            "SELECT id FROM ONLY blog WHERE {keys id}",
        ] {
            assert!(!takes_every_row(select, "blog"), "{select}");
        }
    }
}
