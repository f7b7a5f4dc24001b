//! The reading end in memory.
//!
//! Invariant: between begin and end every read sees the clone taken at begin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::{ModelRows, SourceData, away, bound, hash, key, seen, sum, within};
use crate::engine::compare::{CompareSource, Part, RowHash, ShownRow, Sum, TableRead};
use crate::engine::{
    Batch, Bound, Bounded, CaptureState, Dirty, Joining, KeyRange, Mapping, Position, Source, Stream, Touched,
};
use crate::error::MigrateError;

#[derive(Debug)]
pub(crate) struct ModelSource {
    data: Arc<Mutex<SourceData>>,
    snapshot: Option<Snapshot>,
    staged: Vec<i64>,
}

#[derive(Debug, Clone)]
struct Snapshot {
    rows: BTreeMap<i64, String>,
    log: Vec<(u64, Option<i64>)>,
}

pub(super) fn reachable(data: &SourceData) -> Result<(), MigrateError> {
    if data.away { Err(away("source")) } else { Ok(()) }
}

impl ModelSource {
    pub(super) fn new(data: Arc<Mutex<SourceData>>) -> Self {
        Self { data, snapshot: None, staged: Vec::new() }
    }

    fn snapshot(&self) -> &Snapshot {
        self.snapshot.as_ref().expect("a snapshot is open")
    }

    fn batch(&self, keys: impl IntoIterator<Item = i64>) -> Batch<ModelRows> {
        let keys: Vec<i64> = keys.into_iter().collect();
        let row = |key: &i64| self.snapshot().rows.get(key).map(|text| (*key, text.clone()));
        Batch { rows: ModelRows(keys.iter().filter_map(row).collect()), keys: ModelRows::keys(keys) }
    }

    fn part(&self, part: &Part) -> Vec<(i64, String)> {
        let Part::Range(range) = part else { panic!("ranges only") };
        let rows = self.snapshot().rows.iter().filter(|(key, _)| within(range, **key));
        rows.map(|(key, text)| (*key, text.clone())).collect()
    }
}

impl Source for ModelSource {
    type Rows = ModelRows;

    fn install_capture(&mut self, _: &Stream) -> Result<(), MigrateError> {
        self.data.lock().unwrap().captured = true;
        Ok(())
    }

    fn bound_log(&mut self, _: &Stream, _: u64) -> Result<(), MigrateError> {
        Ok(())
    }

    fn remove_capture(&mut self, _: &Stream) -> Result<(), MigrateError> {
        let mut data = self.data.lock().unwrap();
        (data.captured, data.log) = (false, Vec::new());
        Ok(())
    }

    fn begin(&mut self, stream: &Stream, expected: Option<&str>) -> Result<Position, MigrateError> {
        let data = self.data.lock().unwrap();
        reachable(&data)?;
        self.snapshot = Some(Snapshot { rows: data.rows.clone(), log: data.log.clone() });
        let position = Position(data.position.to_string());
        drop(data);
        self.staged.clear();
        match expected {
            Some(expected) if expected != self.fingerprint(stream)? => {
                Err(MigrateError::refused("the schema changed", "look at it"))
            }
            _ => Ok(position),
        }
    }

    fn fingerprint(&mut self, _: &Stream) -> Result<String, MigrateError> {
        Ok(format!("captured: {}", self.data.lock().unwrap().captured))
    }

    fn persist_snapshot(&mut self) -> Result<(), MigrateError> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), MigrateError> {
        self.snapshot = None;
        Ok(())
    }

    fn covers(&self, later: &Position, earlier: &Position) -> Result<bool, MigrateError> {
        Ok(seen(later) >= seen(earlier))
    }

    fn stage_dirty(&mut self, _: &Mapping, since: &Position) -> Result<Dirty, MigrateError> {
        let (since, log) = (seen(since), self.snapshot().log.clone());
        let new = log.iter().filter(|(position, _)| *position > since);
        let (mut keys, mut whole) = (BTreeSet::new(), false);
        for (_, key) in new {
            match key {
                Some(key) => drop(keys.insert(*key)),
                None => whole = true,
            }
        }
        self.staged = keys.into_iter().collect();
        Ok(Dirty { keys: self.staged.len() as u64, whole })
    }

    fn stage_all(&mut self, _: &Mapping) -> Result<(), MigrateError> {
        let all = self.snapshot().rows.keys().copied().collect::<Vec<_>>();
        self.staged.extend(all);
        self.staged.sort_unstable();
        self.staged.dedup();
        Ok(())
    }

    fn stage(&mut self, _: &Mapping, keys: &ModelRows) -> Result<(), MigrateError> {
        for (key, _) in &keys.0 {
            if !self.staged.contains(key) {
                self.staged.push(*key);
            }
        }
        Ok(())
    }

    fn piece(
        &mut self,
        _: &Mapping,
        from: u64,
        size: u32,
        _: u64,
    ) -> Result<Option<Bounded<ModelRows>>, MigrateError> {
        let keys: Vec<i64> = self.staged.iter().skip(from as usize).take(size as usize).copied().collect();
        Ok((!keys.is_empty()).then(|| Ok(self.batch(keys))))
    }

    fn widen(
        &mut self,
        _: &Mapping,
        _: &Batch<ModelRows>,
        _: &ModelRows,
        _: Joining<'_>,
    ) -> Result<Option<Batch<ModelRows>>, MigrateError> {
        Ok(None)
    }

    fn range_end(&mut self, _: &Mapping, range: &KeyRange, rows: u32) -> Result<Option<Bound>, MigrateError> {
        let mut keys = self.snapshot().rows.keys().filter(|key| within(range, **key));
        Ok(keys.nth(rows as usize - 1).map(|key| bound(*key)))
    }

    fn range(&mut self, _: &Mapping, range: &KeyRange, _: u64) -> Result<Bounded<ModelRows>, MigrateError> {
        let keys: Vec<i64> =
            self.snapshot().rows.keys().filter(|key| within(range, **key)).copied().collect();
        Ok(Ok(self.batch(keys)))
    }

    fn rows_of(&mut self, _: &Mapping, keys: &ModelRows) -> Result<Batch<ModelRows>, MigrateError> {
        Ok(self.batch(keys.0.iter().map(|(key, _)| *key)))
    }

    fn estimate(&mut self, _: &Mapping) -> Result<u64, MigrateError> {
        Ok(self.data.lock().unwrap().rows.len() as u64)
    }

    fn touched(
        &mut self,
        _: &Mapping,
        after: &Position,
        unseen: &Position,
    ) -> Result<Touched<ModelRows>, MigrateError> {
        let data = self.data.lock().unwrap();
        reachable(&data)?;
        let between = |position: u64| position <= seen(after) && position > seen(unseen);
        let keys: Vec<_> =
            data.log.iter().filter(|(position, _)| between(*position)).map(|(_, key)| *key).collect();
        if keys.contains(&None) {
            return Ok(Touched::Whole);
        }
        Ok(Touched::Keys(ModelRows::keys(keys.into_iter().flatten())))
    }

    fn prune(&mut self, _: &Stream, seen_by: &[Position]) -> Result<u64, MigrateError> {
        let mut data = self.data.lock().unwrap();
        reachable(&data)?;
        let limit = seen_by.iter().map(seen).min().unwrap();
        let before = data.log.len();
        data.log.retain(|(position, _)| *position > limit);
        Ok((before - data.log.len()) as u64)
    }

    fn log_size(&mut self, _: &Stream) -> Result<(u64, u64), MigrateError> {
        let rows = self.data.lock().unwrap().log.len() as u64;
        Ok((rows, rows * 16))
    }

    fn capture_state(&mut self, _: &Stream) -> Result<CaptureState, MigrateError> {
        Ok(CaptureState { installed: self.data.lock().unwrap().captured, faults: Vec::new() })
    }

    fn measure(&mut self, _: &str) -> Result<f64, MigrateError> {
        Ok(self.data.lock().unwrap().load)
    }
}

impl CompareSource for ModelSource {
    fn orders_alike(&mut self, _: &Mapping) -> Result<bool, MigrateError> {
        Ok(true)
    }

    fn sum(&mut self, _: &Mapping, part: &Part) -> Result<Sum, MigrateError> {
        reachable(&self.data.lock().unwrap())?;
        let rows = self.part(part);
        Ok(sum(&rows))
    }

    fn row_hashes(&mut self, _: &Mapping, part: &Part) -> Result<Vec<RowHash>, MigrateError> {
        Ok(self.part(part).iter().map(|row| RowHash { key: bound(row.0), hash: hash(row) }).collect())
    }

    fn show(&mut self, _: &Mapping, keys: &[Bound]) -> Result<Vec<ShownRow>, MigrateError> {
        let row = |bound: &Bound| {
            let text = self.snapshot().rows.get(&key(bound))?;
            let values = vec![Some(bound.0.clone()), Some(text.clone())];
            Some(ShownRow { key: bound.clone(), values, bytes: text.len() as u64 })
        };
        Ok(keys.iter().filter_map(row).collect())
    }

    fn dirty_among(
        &mut self,
        _: &Mapping,
        since: &Position,
        keys: &[Bound],
    ) -> Result<Vec<Bound>, MigrateError> {
        let (since, log) = (seen(since), &self.snapshot().log);
        let dirty = |wanted: &&Bound| {
            let logged = |(position, found): &(u64, Option<i64>)| {
                *position > since && found.is_none_or(|found| found == key(wanted))
            };
            log.iter().any(logged)
        };
        Ok(keys.iter().filter(dirty).cloned().collect())
    }

    fn keys(&mut self, _: &Mapping, keys: &[Bound]) -> Result<ModelRows, MigrateError> {
        Ok(ModelRows::keys(keys.iter().map(key)))
    }

    fn bounds(&mut self, _: &Mapping, keys: &ModelRows) -> Result<Vec<Bound>, MigrateError> {
        Ok(keys.0.iter().map(|(key, _)| bound(*key)).collect())
    }

    fn reads(&mut self, mapping: &Mapping) -> Result<Vec<TableRead>, MigrateError> {
        Ok(vec![TableRead { table: mapping.root.clone(), columns: mapping.columns.clone() }])
    }

    fn dirty_keys(
        &mut self,
        mapping: &Mapping,
        since: &Position,
        after: Option<&Bound>,
        rows: u32,
    ) -> Result<Option<Vec<Bound>>, MigrateError> {
        if self.stage_dirty(mapping, since)?.whole {
            return Ok(None);
        }
        let range = KeyRange { after: after.cloned(), up_to: None };
        let keys = self.staged.iter().filter(|key| within(&range, **key)).take(rows as usize);
        Ok(Some(keys.map(|key| bound(*key)).collect()))
    }
}
