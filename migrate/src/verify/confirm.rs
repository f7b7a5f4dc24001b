//! A second, careful look at suspicious keys.
//!
//! Invariant: the order of the reads is owner, other side, owner. With the owner unmoved and no image waiting, the
//! other side had applied everything before it was read, so what differs then is wrong, not late.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::flow::End;
use crate::manifest::TableMap;
use crate::sqlite::{Key, KeyState, Pair, Row, SideRows, key_places, key_text, order_rows, same_value, show};
use crate::verify::report::{ColumnDifference, Difference, Kind, Report};

/// Adds the differences of the keys that stood still to the report, and returns the keys that moved.
pub(super) fn confirm(
    extraction: &Extraction,
    pair: &Pair,
    owner: End,
    keys: &[Key],
    report: &mut Report,
) -> Result<Vec<Key>, MigrateError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let manifest = &extraction.manifest;
    pair.unstage()?;
    pair.stage(keys)?;
    let (staged, before, owned) = pair.snapshot(|pair| {
        Ok((pair.staged()?, pair.staged_states(manifest, owner)?, pair.side_rows(manifest, owner)?))
    })?;
    let other = pair.snapshot(|pair| pair.side_rows(manifest, owner.other()))?;
    let after = pair.snapshot(|pair| pair.staged_states(manifest, owner))?;
    let stood_still = |before: &KeyState, after: &KeyState| before == after && !after.pending;
    let moving: Vec<Key> = staged
        .into_iter()
        .zip(before.iter().zip(&after))
        .filter(|(_, (before, after))| !stood_still(before, after))
        .map(|(key, _)| key)
        .collect();
    let mut known: BTreeSet<String> = moving.iter().map(key_text).collect();
    // First there, then back: a row that differs there differs back as well, which would tell nothing new.
    for table_end in [End::Target, End::Source] {
        let found = differences(extraction, table_end, owner, &owned, &other, &known);
        known.extend(found.iter().map(|(key, _)| key.clone()));
        found.into_iter().for_each(|(_, difference)| report.add(difference));
    }
    Ok(moving)
}

/// The differences in the tables of one end, each with its root key, but for the keys to skip.
fn differences(
    extraction: &Extraction,
    table_end: End,
    owner: End,
    owned: &SideRows,
    other: &SideRows,
    skip: &BTreeSet<String>,
) -> Vec<(String, Difference)> {
    let (mapped, stored) =
        if table_end == owner { (&other.mapped, &owned.stored) } else { (&owned.mapped, &other.stored) };
    let maps = extraction.manifest.maps_into(table_end).iter();
    let mut found = Vec::new();
    for (map, (mapped, stored)) in maps.zip(mapped.iter().zip(stored)) {
        compare(map, table_end, owner, (mapped, stored), &mut |key, difference| {
            if !skip.contains(&key) {
                found.push((key, difference));
            }
        });
    }
    found
}

/// Merges a table's mapped rows with those it holds; both are in key order.
fn compare(
    map: &TableMap,
    table_end: End,
    owner: End,
    (mapped, stored): (&[Row], &[Row]),
    found: &mut dyn FnMut(String, Difference),
) {
    let places = key_places(map);
    let (mut mapped, mut stored) = (mapped.iter().peekable(), stored.iter().peekable());
    loop {
        let order = match (mapped.peek(), stored.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => order_rows(&places, left, right),
        };
        let left = if order == Ordering::Greater { None } else { mapped.next() };
        let right = if order == Ordering::Less { None } else { stored.next() };
        let Some(row) = left.or(right) else { return };
        let columns = differing_columns(map, table_end, left, right);
        let kind = match (left, right) {
            (Some(_), Some(_)) if columns.is_empty() => continue,
            (Some(_), Some(_)) => Kind::Differs,
            // What only the mapping of the other end has is missing in the table; the table may be the owner's own.
            (Some(_), None) if table_end == owner => Kind::Extra,
            (None, Some(_)) if table_end == owner => Kind::Missing,
            (Some(_), None) => Kind::Missing,
            _ => Kind::Extra,
        };
        let key: Vec<String> = places.iter().filter_map(|place| row.get(*place)).map(show).collect();
        let root = places.first().and_then(|place| row.get(*place)).map(key_text).unwrap_or_default();
        found(root, Difference { kind, table: map.table.clone(), key, columns });
    }
}

fn differing_columns(
    map: &TableMap,
    table_end: End,
    mapped: Option<&Row>,
    stored: Option<&Row>,
) -> Vec<ColumnDifference> {
    let (Some(mapped), Some(stored)) = (mapped, stored) else {
        return Vec::new();
    };
    let values = mapped.iter().zip(stored);
    map.columns
        .iter()
        .zip(values)
        .filter(|(_, (mapped, stored))| !same_value(mapped, stored))
        .map(|(column, (mapped, stored))| {
            let (monolith, service) =
                if table_end == End::Target { (mapped, stored) } else { (stored, mapped) };
            ColumnDifference { column: column.clone(), monolith: show(monolith), service: show(service) }
        })
        .collect()
}
