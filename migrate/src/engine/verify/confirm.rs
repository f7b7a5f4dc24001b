//! Looks at suspects once more: what differs is told from what only moves.
//!
//! Invariant: a difference is one of two snapshots in which the key was not dirty.

use std::collections::{BTreeMap, HashSet};

use super::pair::Pair;
use super::report::{ColumnDifference, Difference, Kind};
use crate::engine::compare::{CompareSource as _, ShownRow, is_cut};
use crate::engine::driver::{Bound, Driver, Source as _, StreamRow};
use crate::engine::mapping::Mapping;
use crate::error::MigrateError;

/// Keys per look.
pub(super) const AT_ONCE: usize = 500;

/// What a look at some keys showed.
#[derive(Debug, Default)]
pub(crate) struct Confirmed {
    /// They differ.
    pub(crate) differ: Vec<Difference>,
    /// They are dirty, so nothing can be said yet.
    pub(crate) moving: Vec<Bound>,
}

impl<D: Driver> Pair<'_, D> {
    /// Looks at some keys of a mapping in new snapshots.
    pub(crate) fn confirm(&mut self, mapping: &Mapping, keys: &[Bound]) -> Result<Confirmed, MigrateError> {
        let mut confirmed = Confirmed::default();
        for keys in keys.chunks(AT_ONCE) {
            let (differ, row) = self.within(|pair, row| {
                let moving = pair.source.dirty_among(mapping, &row.pos, keys)?;
                let dirty: HashSet<&Bound> = moving.iter().collect();
                let still: Vec<Bound> = keys.iter().filter(|key| !dirty.contains(key)).cloned().collect();
                let (expected, found) = pair.show(mapping, &still)?;
                confirmed.moving.extend(moving);
                let differ = differences(mapping, expected, found);
                if !differ.is_empty() {
                    // The copy may have begun anew since the first look.
                    pair.needs_copy(row)?;
                }
                Ok((differ, row.clone()))
            })?;
            if self.is_way_back() && !differ.is_empty() {
                self.judge(mapping, differ, &row, &mut confirmed)?;
            } else {
                confirmed.differ.extend(differ);
            }
        }
        Ok(confirmed)
    }

    /// A row that is not as the inverse makes it is right as long as the way there makes of it what the service holds. That is asked
    /// behind the snapshots, so only of keys that no later one finds dirty it says anything.
    fn judge(
        &mut self,
        mapping: &Mapping,
        differ: Vec<Difference>,
        row: &StreamRow,
        confirmed: &mut Confirmed,
    ) -> Result<(), MigrateError> {
        let mut keys: Vec<Bound> = differ.iter().map(|difference| Bound(difference.key.clone())).collect();
        keys.sort_unstable();
        keys.dedup();
        let outdated = self.outdated(mapping, keys)?;
        self.source.begin(self.stream, Some(&row.fingerprint))?;
        let dirty = self.source.dirty_among(mapping, &row.pos, &outdated);
        self.source.end()?;
        let dirty = dirty?;
        let wrong: HashSet<&str> =
            outdated.iter().filter(|key| !dirty.contains(key)).map(|key| key.0.as_str()).collect();
        confirmed.differ.extend(differ.into_iter().filter(|found| wrong.contains(found.key.as_str())));
        confirmed.moving.extend(dirty);
        Ok(())
    }
}

/// A row is known by its key in the target; the source key alone may have several rows.
fn differences(mapping: &Mapping, expected: Vec<ShownRow>, found: Vec<ShownRow>) -> Vec<Difference> {
    let mut rows: BTreeMap<_, (Vec<ShownRow>, Vec<ShownRow>)> = BTreeMap::new();
    let known_by = |row: &ShownRow| (row.key.0.clone(), own_key(mapping, row));
    expected.into_iter().for_each(|row| rows.entry(known_by(&row)).or_default().0.push(row));
    found.into_iter().for_each(|row| rows.entry(known_by(&row)).or_default().1.push(row));
    rows.into_values().flat_map(|(expected, found)| unequal(mapping, expected, found)).collect()
}

/// Of rows with one key; the mapping may make several, of which the target holds one. It finds that one once for each spelling
/// of the key that was asked for.
fn unequal(
    mapping: &Mapping,
    mut expected: Vec<ShownRow>,
    mut found: Vec<ShownRow>,
) -> impl Iterator<Item = Difference> {
    let mut seen = HashSet::new();
    found.retain(|row| seen.insert(row.values.clone()));
    found.retain(|row| {
        let equal = expected.iter().position(|expected| expected.values == row.values);
        equal.map(|at| expected.swap_remove(at)).is_none()
    });
    let (mut expected, mut found) = (expected.into_iter(), found.into_iter());
    std::iter::from_fn(move || match (expected.next(), found.next()) {
        (None, None) => None,
        (expected, found) => Some(difference(mapping, expected, found)),
    })
}

fn own_key(mapping: &Mapping, row: &ShownRow) -> Vec<Option<String>> {
    let place = |name: &String| mapping.columns.iter().position(|column| column == name);
    let places = mapping.key.iter().filter_map(place);
    places.map(|place| row.values.get(place).cloned().flatten()).collect()
}

/// A row that belongs to no source key is known by its own.
pub(super) fn unowned(mapping: &Mapping, row: Option<ShownRow>) -> Difference {
    let own = row.map(|row| own_key(mapping, &row)).unwrap_or_default();
    let columns = mapping.key.iter().zip(own).map(|(column, found)| {
        let cut = found.as_deref().is_some_and(is_cut);
        ColumnDifference { column: column.clone(), expected: None, found, cut }
    });
    let (kind, table) = (Kind::Extra, mapping.table.clone());
    Difference { kind, table, key: String::new(), columns: columns.collect() }
}

fn difference(mapping: &Mapping, expected: Option<ShownRow>, found: Option<ShownRow>) -> Difference {
    let key = expected.as_ref().or(found.as_ref()).map_or_else(String::new, |row| row.key.0.clone());
    let kind = match (&expected, &found) {
        (Some(_), Some(_)) => Kind::Differs,
        (Some(_), None) => Kind::Missing,
        _ => Kind::Extra,
    };
    let value = |row: &Option<ShownRow>, place: usize| {
        row.as_ref().and_then(|row| row.values.get(place).cloned().flatten())
    };
    let columns = mapping.columns.iter().enumerate().map(|(place, column)| {
        let (expected, found) = (value(&expected, place), value(&found, place));
        let cut = expected.iter().chain(&found).any(|value| is_cut(value));
        ColumnDifference { column: column.clone(), expected, found, cut }
    });
    let columns = columns.filter(|column| kind != Kind::Differs || column.expected != column.found).collect();
    Difference { kind, table: mapping.table.clone(), key, columns }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, name: &str) -> ShownRow {
        let values = [id, name].map(|value| Some(value.to_owned())).to_vec();
        ShownRow { key: Bound("[1]".to_owned()), values, bytes: 2 }
    }

    #[test]
    fn of_two_rows_with_one_key_the_one_that_the_target_lacks_is_told() {
        let mapping = Mapping {
            table: "item".to_owned(),
            key: vec!["id".to_owned()],
            columns: vec!["id".to_owned(), "name".to_owned()],
            carries: vec!["id".to_owned()],
            select: String::new(),
            root: "item".to_owned(),
            root_key: vec!["id".to_owned()],
            joins: Vec::new(),
        };
        let both = || vec![row("1", "x"), row("1", "y")];
        let kinds = |expected, found| -> Vec<Kind> {
            differences(&mapping, expected, found).into_iter().map(|difference| difference.kind).collect()
        };
        assert_eq!(kinds(both(), vec![row("1", "y")]), [Kind::Missing]);
        assert_eq!(kinds(both(), vec![row("1", "z")]), [Kind::Differs, Kind::Missing]);
        assert_eq!(kinds(vec![row("1", "x")], both()), [Kind::Extra]);
        assert_eq!(kinds(both(), both()), []);
        assert_eq!(kinds(vec![row("1", "x")], vec![row("1", "x"), row("1", "x")]), []);
    }
}
