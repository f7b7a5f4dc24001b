//! The writing end in memory.
//!
//! Invariant: a method locks the data once, so it is one transaction.

use std::sync::{Arc, Mutex, MutexGuard};

use super::{Chunk, ModelRows, TargetData, away, bound, hash, key, seen, sum, within};
use crate::engine::compare::{Cells, CompareTarget, Part, RowHash, ShownRow, Sum};
use crate::engine::in_the_way::{ADOPTED, AN_OLDER_COPY};
use crate::engine::{
    Batch, Bound, ChunkDone, ChunksLeft, Claim, Guard, Kept, KeyRange, Lease, Mapping, Outcome, Phase,
    Position, Rows as _, Stream, StreamRow, Target, Touched,
};
use crate::error::MigrateError;

#[derive(Debug)]
pub(crate) struct ModelTarget {
    data: Arc<Mutex<TargetData>>,
    snapshot: Option<std::collections::BTreeMap<i64, String>>,
}

pub(super) fn reachable(data: &TargetData) -> Result<(), MigrateError> {
    if data.away { Err(away("target")) } else { Ok(()) }
}

impl ModelTarget {
    pub(super) fn new(data: Arc<Mutex<TargetData>>) -> Self {
        Self { data, snapshot: None }
    }

    fn data(&self) -> Result<MutexGuard<'_, TargetData>, MigrateError> {
        let data = self.data.lock().unwrap();
        reachable(&data)?;
        Ok(data)
    }

    fn part(&self, part: &Part) -> Vec<(i64, String)> {
        let Part::Range(range) = part else { panic!("ranges only") };
        let rows = self.snapshot.as_ref().expect("a snapshot is open").iter();
        rows.filter(|(key, _)| within(range, **key)).map(|(key, text)| (*key, text.clone())).collect()
    }
}

fn chunk_of<'a>(data: &'a mut TargetData, lease: &Lease) -> Option<&'a mut Chunk> {
    let chunk = data.chunks.get_mut(usize::try_from(lease.chunk).unwrap())?;
    (chunk.lease == lease.lease && chunk.leased && chunk.done.is_none()).then_some(chunk)
}

fn write(data: &mut TargetData, batch: &Batch<ModelRows>, except: &[i64]) -> u64 {
    let keys = batch.keys.0.iter().map(|(key, _)| *key).filter(|key| !except.contains(key));
    let mut changed = 0;
    for key in keys {
        let new = batch.rows.0.iter().find(|(found, _)| *found == key).map(|(_, text)| text.clone());
        if data.rows.get(&key) != new.as_ref() {
            changed += 1;
        }
        match new {
            Some(text) => drop(data.rows.insert(key, text)),
            None => drop(data.rows.remove(&key)),
        }
    }
    changed
}

impl Target for ModelTarget {
    type Rows = ModelRows;

    fn prepare(&mut self, _: &Stream) -> Result<(), MigrateError> {
        self.data().map(|_| ())
    }

    fn stream(&mut self, name: &str) -> Result<Option<StreamRow>, MigrateError> {
        Ok(self.data()?.streams.get(name).cloned())
    }

    fn create_stream(&mut self, name: &str, row: &StreamRow) -> Result<(), MigrateError> {
        let mut data = self.data()?;
        let token = row.token.max(data.tokens.get(name).copied().unwrap_or_default());
        data.streams.entry(name.to_owned()).or_insert_with(|| StreamRow { token, ..row.clone() });
        Ok(())
    }

    fn forget_stream(&mut self, stream: &Stream, kept: Kept) -> Result<(), MigrateError> {
        let mut data = self.data()?;
        if let Some(row) = data.streams.remove(&stream.name) {
            data.tokens.insert(stream.name.clone(), row.token + 1);
        }
        (data.chunks, data.notes, data.holds) = Default::default();
        if kept != Kept::Nothing {
            data.notes.insert(ADOPTED.to_owned(), AN_OLDER_COPY.to_owned());
        }
        Ok(())
    }

    fn is_empty(&mut self, _: &Stream) -> Result<bool, MigrateError> {
        Ok(self.data()?.rows.is_empty())
    }

    fn claim(&mut self, name: &str) -> Result<Claim, MigrateError> {
        let mut data = self.data()?;
        let row = data.streams.get_mut(name).unwrap();
        row.token += 1;
        Ok(Claim { stream: name.to_owned(), token: row.token })
    }

    fn set_next(&mut self, claim: &Claim, next: &Position) -> Result<bool, MigrateError> {
        let mut data = self.data()?;
        let row = data.streams.get_mut(&claim.stream).unwrap();
        if row.token == claim.token {
            row.next = next.clone();
        }
        Ok(row.token == claim.token)
    }

    fn set_pos(&mut self, claim: &Claim, as_read: &Position, pos: &Position) -> Result<bool, MigrateError> {
        let mut data = self.data()?;
        let row = data.streams.get_mut(&claim.stream).unwrap();
        let ours = row.token == claim.token && row.pos == *as_read;
        if ours {
            row.pos = pos.clone();
        }
        Ok(ours)
    }

    fn known_keys(
        &mut self,
        _: &Mapping,
        after: Option<&Bound>,
        rows: u32,
    ) -> Result<(ModelRows, Option<Bound>), MigrateError> {
        let data = self.data()?;
        let range = KeyRange { after: after.cloned(), up_to: None };
        let keys: Vec<i64> =
            data.rows.keys().filter(|key| within(&range, **key)).take(rows as usize).copied().collect();
        let last = (keys.len() == rows as usize).then(|| bound(*keys.last().unwrap()));
        Ok((ModelRows::keys(keys), last))
    }

    fn apply(
        &mut self,
        guard: Guard<'_, ModelRows>,
        _: &Mapping,
        batch: &Batch<ModelRows>,
    ) -> Result<Outcome<ModelRows>, MigrateError> {
        let mut data = self.data()?;
        match guard {
            Guard::Claim(claim) => {
                if data.streams.get(&claim.stream).unwrap().token != claim.token {
                    return Ok(Outcome::Superseded);
                }
                Ok(Outcome::Written(write(&mut data, batch, &[])))
            }
            Guard::GivingWay { stream, chunk: done, touched } => {
                let next = data.streams.get(stream).unwrap().next.clone();
                let except: Vec<i64> = match touched(&next)? {
                    Touched::Keys(keys) => keys.0.iter().map(|(key, _)| *key).collect(),
                    Touched::Whole => batch.keys.0.iter().map(|(key, _)| *key).collect(),
                };
                if let Some(done) = &done {
                    let Some(chunk) = chunk_of(&mut data, done.lease) else {
                        return Ok(Outcome::Superseded);
                    };
                    chunk.done = Some(done.rows);
                }
                let changed = write(&mut data, batch, &except);
                Ok(Outcome::Written(if done.is_some() { batch.rows.len() } else { changed }))
            }
        }
    }

    fn lease_chunk(
        &mut self,
        stream: &Stream,
        _: u32,
        end: &mut crate::engine::driver::RangeEnd<'_>,
    ) -> Result<Option<Lease>, MigrateError> {
        let mut data = self.data()?;
        let name = stream.name.clone();
        let lease = |number: usize, chunk: &mut Chunk| {
            (chunk.leased, chunk.lease) = (true, chunk.lease + 1);
            let (lease, range) = (chunk.lease, chunk.range.clone());
            Lease { stream: name.clone(), mapping: 0, chunk: number as i64, lease, range }
        };
        let free =
            data.chunks.iter_mut().enumerate().find(|(_, chunk)| !chunk.leased && chunk.done.is_none());
        if let Some((number, chunk)) = free {
            return Ok(Some(lease(number, chunk)));
        }
        let after = match data.chunks.last() {
            Some(Chunk { range: KeyRange { up_to: None, .. }, .. }) => return Ok(None),
            last => last.and_then(|chunk| chunk.range.up_to.clone()),
        };
        let up_to = end(&stream.mappings[0], after.as_ref())?;
        let range = KeyRange { after, up_to };
        data.chunks.push(Chunk { range, lease: 0, leased: false, snapshot: None, done: None });
        let number = data.chunks.len() - 1;
        Ok(data.chunks.last_mut().map(|chunk| lease(number, chunk)))
    }

    fn register_chunk(&mut self, held: &Lease, snapshot: &Position) -> Result<bool, MigrateError> {
        let mut data = self.data()?;
        let Some(chunk) = chunk_of(&mut data, held) else { return Ok(false) };
        chunk.snapshot = Some(snapshot.clone());
        Ok(true)
    }

    fn release_chunk(&mut self, held: &Lease) -> Result<(), MigrateError> {
        let mut data = self.data()?;
        if let Some(chunk) = chunk_of(&mut data, held) {
            (chunk.leased, chunk.snapshot) = (false, None);
        }
        Ok(())
    }

    fn chunks_left(&mut self, _: &Stream) -> Result<ChunksLeft, MigrateError> {
        let data = self.data()?;
        let leased = data.chunks.iter().filter(|chunk| chunk.leased && chunk.done.is_none()).count() as u64;
        let all = data.chunks.iter().all(|chunk| chunk.done.is_some());
        let done = all && data.chunks.last().is_some_and(|chunk| chunk.range.up_to.is_none());
        Ok(ChunksLeft { leased, done, rows: data.chunks.iter().filter_map(|chunk| chunk.done).sum() })
    }

    fn load(
        &mut self,
        done: ChunkDone<'_>,
        _: &Mapping,
        batch: &Batch<ModelRows>,
    ) -> Result<bool, MigrateError> {
        let mut data = self.data()?;
        let Some(chunk) = chunk_of(&mut data, done.lease) else { return Ok(false) };
        chunk.done = Some(done.rows);
        write(&mut data, batch, &[]);
        Ok(true)
    }

    fn begin_loading(&mut self, _: &Stream) -> Result<(), MigrateError> {
        self.data()?.loads += 1;
        Ok(())
    }

    fn finish_loading(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let mut data = self.data()?;
        if data.full {
            return Err(MigrateError::Unreachable { message: "the disk is full".to_owned(), source: None });
        }
        data.streams.get_mut(&stream.name).unwrap().phase = Phase::Following;
        Ok(())
    }

    fn needed_positions(&mut self, name: &str) -> Result<Vec<Position>, MigrateError> {
        let data = self.data()?;
        let mut needed: Vec<Position> =
            data.streams.get(name).map(|row| row.pos.clone()).into_iter().collect();
        let unfinished = data.chunks.iter().filter(|chunk| chunk.done.is_none());
        needed.extend(unfinished.filter_map(|chunk| chunk.snapshot.clone()));
        needed.extend(data.holds.values().cloned());
        Ok(needed)
    }

    fn move_sequences(&mut self, _: &Stream) -> Result<(), MigrateError> {
        Ok(())
    }

    fn note(&mut self, _: &str, name: &str) -> Result<Option<String>, MigrateError> {
        Ok(self.data()?.notes.get(name).cloned())
    }

    fn set_note(&mut self, _: &str, name: &str, text: Option<&str>) -> Result<(), MigrateError> {
        let mut data = self.data()?;
        match text {
            Some(text) => drop(data.notes.insert(name.to_owned(), text.to_owned())),
            None => drop(data.notes.remove(name)),
        }
        Ok(())
    }
}

impl CompareTarget for ModelTarget {
    fn snapshot(&mut self, stream: &Stream) -> Result<Option<StreamRow>, MigrateError> {
        let hook = self.data()?.before_snapshot.clone();
        hook.fire();
        let data = self.data()?;
        let (rows, row) = (data.rows.clone(), data.streams.get(&stream.name).cloned());
        drop(data);
        self.snapshot = Some(rows);
        Ok(row)
    }

    fn end_snapshot(&mut self) -> Result<(), MigrateError> {
        self.snapshot = None;
        Ok(())
    }

    fn sum(&mut self, _: &Mapping, part: &Part) -> Result<Sum, MigrateError> {
        let rows = self.part(part);
        Ok(sum(&rows))
    }

    fn row_hashes(&mut self, _: &Mapping, part: &Part) -> Result<Vec<RowHash>, MigrateError> {
        Ok(self.part(part).iter().map(|row| RowHash { key: bound(row.0), hash: hash(row) }).collect())
    }

    fn show(&mut self, _: &Mapping, keys: &[Bound], _: Cells) -> Result<Vec<ShownRow>, MigrateError> {
        let rows = self.snapshot.as_ref().expect("a snapshot is open");
        let row = |bound: &Bound| {
            let text = rows.get(&key(bound))?;
            let values = vec![Some(bound.0.clone()), Some(text.clone())];
            Some(ShownRow { key: bound.clone(), values, bytes: text.len() as u64 })
        };
        Ok(keys.iter().filter_map(row).collect())
    }

    fn rows_without_key(&mut self, _: &Mapping, _: u32) -> Result<(u64, Vec<ShownRow>), MigrateError> {
        Ok((0, Vec::new()))
    }

    fn would_make(
        &mut self,
        _: &Mapping,
        _: &[(&Mapping, Batch<ModelRows>)],
        _: &KeyRange,
    ) -> Result<Vec<RowHash>, MigrateError> {
        panic!("a model has no way back")
    }

    fn hold(&mut self, _: &str, name: &str, position: &Position, _: u32) -> Result<(), MigrateError> {
        assert!(seen(position) < u64::MAX);
        self.data()?.holds.insert(name.to_owned(), position.clone());
        Ok(())
    }

    fn drop_hold(&mut self, _: &str, name: &str) -> Result<(), MigrateError> {
        self.data()?.holds.remove(name);
        Ok(())
    }
}
