//! Splits a part that differs, down to where its rows are compared one by one.
//!
//! Invariant: the children of a part hold each of its keys once, and no other key.

use std::collections::BTreeMap;

use super::pair::Pair;
use crate::engine::compare::{CompareTarget as _, Part, RowHash};
use crate::engine::driver::{Bound, Driver, KeyRange, Rows as _, Source as _, Target as _};
use crate::engine::mapping::Mapping;
use crate::error::MigrateError;

/// Into how many parts one that differs is split.
const SPLIT: u32 = 8;

/// Splits a part; a part with a single key stays whole.
pub(super) fn split<D: Driver>(
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
#[derive(Debug, Clone, Copy)]
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
        let end = match by {
            By::Source => pair.source.range_end(mapping, after.as_ref(), size)?,
            By::Target => pair.target.known_keys(mapping, after.as_ref(), size)?.1,
        };
        let Some(end) = end else { break };
        if is_behind(pair, mapping, range, by, &end)? {
            break;
        }
        parts.push(Part::Range(KeyRange { after: after.replace(end.clone()), up_to: Some(end) }));
    }
    parts.push(Part::Range(KeyRange { after, up_to: range.up_to.clone() }));
    Ok(parts)
}

/// Whether a key lies at the end of a range or behind it. Only the database knows the order of keys: one behind the range is
/// itself between the range's end and itself.
fn is_behind<D: Driver>(
    pair: &mut Pair<'_, D>,
    mapping: &Mapping,
    range: &KeyRange,
    by: By,
    key: &Bound,
) -> Result<bool, MigrateError> {
    let Some(up_to) = &range.up_to else { return Ok(false) };
    if up_to == key {
        return Ok(true);
    }
    let between = KeyRange { after: Some(up_to.clone()), up_to: Some(key.clone()) };
    Ok(match by {
        By::Source => !pair.source.range(mapping, &between)?.keys.is_empty(),
        By::Target => pair.target.sum(mapping, &Part::Range(between))?.rows > 0,
    })
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
