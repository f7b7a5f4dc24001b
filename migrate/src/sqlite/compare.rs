//! Comparing what a mapping says with what a table holds: first a streaming merge that only finds suspicious keys,
//! then the rows of those keys in memory.
//!
//! Invariant: every row of either side within the range is looked at once, and a row counts as equal only if all its
//! columns are the same, bit for bit.

use std::cmp::Ordering;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Row as SqlRow, Statement};

use super::Pair;
use super::sql::{self, KeyRange, Keys, quote, table};
use super::values::{self, Key, Row};
use crate::error::MigrateError;
use crate::flow::End;
use crate::manifest::{Manifest, TableMap};

/// What a merge of one range found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Rows compared, those of both directions together.
    pub rows: u64,
    /// Root keys with a row that differs, is missing or is too many; ascending within each table.
    pub suspects: Vec<Key>,
}

/// One end's rows of the staged keys: all that comparing them takes from that end.
#[derive(Debug)]
pub struct SideRows {
    /// Per table of the *other* end, what the mapping makes of this end.
    pub mapped: Vec<Vec<Row>>,
    /// Per table of this end, what it holds.
    pub stored: Vec<Vec<Row>>,
}

impl Pair {
    /// Merges a range in both directions; both ends are read in the caller's snapshot.
    pub fn scan_range(&self, manifest: &Manifest, range: &KeyRange) -> Result<Scan, MigrateError> {
        self.scan(manifest, Keys::Range(range))
    }

    fn scan(&self, manifest: &Manifest, keys: Keys<'_>) -> Result<Scan, MigrateError> {
        let mut scan = Scan::default();
        for end in [End::Target, End::Source] {
            for map in manifest.maps_into(end) {
                let mut mapped = self.conn.prepare(&sql::mapped(map, keys))?;
                let mut stored = self.conn.prepare(&sql::stored(end, map, keys))?;
                merge(map, &mut mapped, &mut stored, keys, &mut scan).map_err(|error| {
                    MigrateError::Failed {
                        message: format!("comparing {} failed", map.table),
                        source: Some(Box::new(self.locate(error.into()))),
                    }
                })?;
            }
        }
        Ok(scan)
    }

    /// Reads the staged keys' rows from one end only.
    pub fn side_rows(&self, manifest: &Manifest, end: End) -> Result<SideRows, MigrateError> {
        let read = |statement: String, map: &TableMap| -> Result<Vec<Row>, MigrateError> {
            let mut statement = self.conn.prepare(&statement)?;
            let width = map.columns.len();
            let rows = statement.query_map([], |row| (0..width).map(|index| row.get(index)).collect())?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        let mapped = manifest.maps_into(end.other()).iter();
        let stored = manifest.maps_into(end).iter();
        Ok(SideRows {
            mapped: mapped.map(|map| read(sql::mapped(map, Keys::Staged), map)).collect::<Result<_, _>>()?,
            stored: stored
                .map(|map| read(sql::stored(end, map, Keys::Staged), map))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Rows without a root key: no range holds them, so they are counted apart.
    pub fn rows_without_key(&self, end: End, map: &TableMap) -> Result<i64, MigrateError> {
        let sql = format!(
            "SELECT count(*) FROM {} WHERE {} IS NULL",
            table(end, &map.table),
            quote(map.root_key())
        );
        Ok(self.conn.query_row(&sql, [], |row| row.get(0))?)
    }
}

/// The places of a map's key columns among its columns.
pub(crate) fn key_places(map: &TableMap) -> Vec<usize> {
    map.key.iter().filter_map(|name| map.columns.iter().position(|column| column == name)).collect()
}

fn merge(
    map: &TableMap,
    mapped: &mut Statement<'_>,
    stored: &mut Statement<'_>,
    keys: Keys<'_>,
    scan: &mut Scan,
) -> Result<(), rusqlite::Error> {
    let places = key_places(map);
    let root = places.first().copied().unwrap_or_default();
    let params = keys.params();
    let (mut mapped, mut stored) = (mapped.query(params.as_slice())?, stored.query(params.as_slice())?);
    let (mut left, mut right) = (mapped.next()?, stored.next()?);
    loop {
        let order = match (left, right) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => order_of(&places, left, right)?,
        };
        let equal = match (order, left, right) {
            (Ordering::Equal, Some(left), Some(right)) => same_row(map.columns.len(), left, right)?,
            _ => false,
        };
        if !equal && let Some(row) = if order == Ordering::Greater { right } else { left } {
            let key: Value = row.get(root)?;
            if scan.suspects.last() != Some(&key) {
                scan.suspects.push(key);
            }
        }
        scan.rows += 1;
        if order != Ordering::Greater {
            left = mapped.next()?;
        }
        if order != Ordering::Less {
            right = stored.next()?;
        }
    }
}

fn order_of(places: &[usize], left: &SqlRow<'_>, right: &SqlRow<'_>) -> Result<Ordering, rusqlite::Error> {
    for place in places {
        let order = values::order(left.get_ref(*place)?, right.get_ref(*place)?);
        if order != Ordering::Equal {
            return Ok(order);
        }
    }
    Ok(Ordering::Equal)
}

fn same_row(width: usize, left: &SqlRow<'_>, right: &SqlRow<'_>) -> Result<bool, rusqlite::Error> {
    for index in 0..width {
        if !values::same(left.get_ref(index)?, right.get_ref(index)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The order of two rows in memory by their keys.
pub(crate) fn order_rows(places: &[usize], left: &Row, right: &Row) -> Ordering {
    let value = |row: &Row, place: usize| row.get(place).cloned().unwrap_or(Value::Null);
    for place in places {
        let (left, right) = (value(left, *place), value(right, *place));
        let order = values::order(ValueRef::from(&left), ValueRef::from(&right));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// Whether two values in memory are the same.
pub(crate) fn same_value(left: &Value, right: &Value) -> bool {
    values::same(ValueRef::from(left), ValueRef::from(right))
}
