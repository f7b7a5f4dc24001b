//! Splits a part that differs, down to where its rows are compared one by one.
//!
//! Invariant: the children of a part hold each of its keys once, and no other key.

use std::collections::BTreeMap;
use std::time::Instant;

use super::pair::Pair;
use super::walk::AGE_OF_SNAPSHOTS;
use crate::engine::compare::{CompareTarget as _, Part, RowHash, Sum};
use crate::engine::driver::{Bound, Driver, KeyRange, Source as _, Target as _};
use crate::engine::mapping::Mapping;
use crate::error::MigrateError;

/// A range with no more rows than this is compared row by row; a bucket, whose every part reads the whole table, is so earlier.
const ROWS_OF_RANGE: u64 = 5_000;
const ROWS_OF_BUCKET: u64 = 100_000;
/// Into how many parts one that differs is split.
const SPLIT: u32 = 8;
/// Suspects that are held before they are looked at once more.
const SUSPECTS: usize = 10_000;

/// A part that differs.
#[derive(Debug)]
pub(super) struct Differing<'a> {
    /// The mapping's position in the stream.
    pub(super) number: usize,
    pub(super) mapping: &'a Mapping,
    pub(super) part: Part,
    /// The source's.
    pub(super) expected: Sum,
    /// The target's.
    pub(super) found: Sum,
}

/// Narrows parts down to the keys that differ, by their mappings' positions, as long as the snapshots are young; what is left of
/// the parts waits for the next ones. What the snapshots of the first sums held may be different in these.
pub(super) fn narrow<'a, D: Driver>(
    pair: &mut Pair<'a, D>,
    waiting: &mut Vec<Differing<'a>>,
) -> Result<BTreeMap<usize, Vec<Bound>>, MigrateError> {
    let (began, mut found) = (Instant::now(), 0);
    let mut keys: BTreeMap<usize, Vec<Bound>> = BTreeMap::new();
    while began.elapsed() < AGE_OF_SNAPSHOTS && found < SUSPECTS {
        let Some(differing) = waiting.pop() else { break };
        let parts = if differing.is_large() { differing.split(pair)? } else { Vec::new() };
        if parts.len() > 1 {
            waiting.extend(those_that_differ(pair, &differing, parts)?);
            continue;
        }
        let (expected, actual) = pair.row_hashes(differing.mapping, &differing.part)?;
        let suspects = suspects(expected, actual);
        found += suspects.len();
        keys.entry(differing.number).or_default().extend(suspects);
    }
    Ok(keys)
}

/// Those of its parts in which a part differs, looked at until they hold all that it holds more or less: the others then add up to no
/// difference, which is what a part must do to count as equal.
fn those_that_differ<'a, D: Driver>(
    pair: &mut Pair<'a, D>,
    whole: &Differing<'a>,
    parts: Vec<Part>,
) -> Result<Vec<Differing<'a>>, MigrateError> {
    let Differing { number, mapping, .. } = *whole;
    let (mut differing, mut left) = (Vec::new(), whole.expected.minus(whole.found));
    for part in parts {
        if left == Sum::default() {
            break;
        }
        let (expected, found) = pair.sums(mapping, &part)?;
        left = left.minus(expected.minus(found));
        if expected != found {
            differing.push(Differing { number, mapping, part, expected, found });
        }
    }
    Ok(differing)
}

impl Differing<'_> {
    fn is_large(&self) -> bool {
        let small = match self.part {
            Part::Range(_) => ROWS_OF_RANGE,
            Part::Bucket { .. } => ROWS_OF_BUCKET,
        };
        self.expected.rows.max(self.found.rows) > small
    }

    fn split<D: Driver>(&self, pair: &mut Pair<'_, D>) -> Result<Vec<Part>, MigrateError> {
        split(pair, self.mapping, &self.part, (self.expected.rows, self.found.rows))
    }
}

/// Splits a part; a part with a single key stays whole.
fn split<D: Driver>(
    pair: &mut Pair<'_, D>,
    mapping: &Mapping,
    part: &Part,
    (source_rows, target_rows): (u64, u64),
) -> Result<Vec<Part>, MigrateError> {
    let range = match part {
        Part::Bucket { index, of } => {
            let children = (0..SPLIT).map(|child| index + of * child);
            return Ok(children.map(|index| Part::Bucket { index, of: of * SPLIT }).collect());
        }
        Part::Range(range) => range,
    };
    // Where the source has few rows to split by, the target's keys do it.
    let by = if source_rows >= target_rows / 2 { By::Source } else { By::Target };
    let mut size = u32::try_from(source_rows.max(target_rows) / u64::from(SPLIT) + 1).unwrap_or(u32::MAX);
    loop {
        let parts = split_by(pair, mapping, range, by, size)?;
        // A key with many rows makes fewer keys than rows: try smaller steps.
        if parts.len() > 1 || size == 1 {
            return Ok(parts);
        }
        size = (size / 4).max(1);
    }
}

/// Whose keys a range is split by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Source,
    Target,
}

fn split_by<D: Driver>(
    pair: &mut Pair<'_, D>,
    mapping: &Mapping,
    range: &KeyRange,
    by: By,
    size: u32,
) -> Result<Vec<Part>, MigrateError> {
    let (mut parts, mut after) = (Vec::new(), range.after.clone());
    for _ in 0..SPLIT {
        let rest = KeyRange { after: after.clone(), up_to: range.up_to.clone() };
        let end = match by {
            By::Source => pair.source.range_end(mapping, &rest, size)?,
            By::Target => pair.target.known_keys(mapping, after.as_ref(), size)?.1,
        };
        let Some(end) = end else { break };
        if range.up_to.as_ref() == Some(&end) || by == By::Target && is_behind(pair, mapping, range, &end)? {
            break;
        }
        parts.push(Part::Range(KeyRange { after: after.replace(end.clone()), up_to: Some(end) }));
    }
    parts.push(Part::Range(KeyRange { after, up_to: range.up_to.clone() }));
    Ok(parts)
}

/// Whether a key of the target lies behind a range. Only the database knows the order of keys: one behind the range is
/// itself between the range's end and itself.
fn is_behind<D: Driver>(
    pair: &mut Pair<'_, D>,
    mapping: &Mapping,
    range: &KeyRange,
    key: &Bound,
) -> Result<bool, MigrateError> {
    let Some(up_to) = &range.up_to else { return Ok(false) };
    let between = KeyRange { after: Some(up_to.clone()), up_to: Some(key.clone()) };
    Ok(pair.target.sum(mapping, &Part::Range(between))?.rows > 0)
}

/// Keys whose rows differ in number or hash.
pub(crate) fn suspects(expected: Vec<RowHash>, actual: Vec<RowHash>) -> Vec<Bound> {
    let mut hashes: BTreeMap<String, (Vec<i64>, Vec<i64>)> = BTreeMap::new();
    for row in expected {
        hashes.entry(row.key.0).or_default().0.push(row.hash);
    }
    for row in actual {
        hashes.entry(row.key.0).or_default().1.push(row.hash);
    }
    let differ = hashes.into_iter().filter_map(|(key, (mut expected, mut actual))| {
        expected.sort_unstable();
        actual.sort_unstable();
        (expected != actual).then_some(Bound(key))
    });
    differ.collect()
}
