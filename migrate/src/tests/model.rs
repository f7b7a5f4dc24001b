//! A driver in memory: the smallest one that keeps what the traits promise, for tests of what is generic over drivers.
//!
//! One table with whole numbers as keys and texts as rows. A position is the number of the last log row seen. It also shows
//! what a driver must do where, without any SQL in the way.
//!
//! Invariant: it shares the engine's promises and none of its code.

mod source;
mod target;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::engine::compare::Sum;
use crate::engine::{Bound, Driver, KeyRange, Mapping, Position, Rows, Stream, StreamRow};
use crate::error::MigrateError;

pub(super) use source::ModelSource;
pub(super) use target::ModelTarget;

/// Both databases.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) source: Arc<Mutex<SourceData>>,
    pub(super) target: Arc<Mutex<TargetData>>,
}

#[derive(Debug, Default)]
pub(super) struct SourceData {
    pub(super) rows: BTreeMap<i64, String>,
    /// Position and key; no key: the whole table.
    pub(super) log: Vec<(u64, Option<i64>)>,
    pub(super) position: u64,
    pub(super) captured: bool,
    pub(super) load: f64,
    pub(super) away: bool,
}

#[derive(Debug, Default)]
pub(super) struct TargetData {
    pub(super) rows: BTreeMap<i64, String>,
    pub(super) streams: BTreeMap<String, StreamRow>,
    /// Behind those of forgotten streams.
    pub(super) tokens: BTreeMap<String, i64>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) notes: BTreeMap<String, String>,
    pub(super) holds: BTreeMap<String, Position>,
    pub(super) loads: u32,
    pub(super) away: bool,
    /// Nothing can be built.
    pub(super) full: bool,
    pub(super) before_snapshot: Hook,
}

/// What happens at a moment that a test chose.
#[derive(Clone, Default)]
pub(super) struct Hook(Option<Arc<dyn Fn() + Send + Sync>>);

impl Hook {
    pub(super) fn new(happens: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(happens)))
    }

    fn fire(&self) {
        self.0.iter().for_each(|happens| happens());
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hook").field(&self.0.is_some()).finish()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) range: KeyRange,
    pub(super) lease: i64,
    pub(super) leased: bool,
    pub(super) snapshot: Option<Position>,
    pub(super) done: Option<u64>,
}

impl SourceData {
    /// The application writes: `None` deletes.
    pub(super) fn put(&mut self, key: i64, value: Option<&str>) {
        match value {
            Some(value) => self.rows.insert(key, value.to_owned()),
            None => self.rows.remove(&key),
        };
        self.position += 1;
        self.log.push((self.position, Some(key)));
    }

    pub(super) fn truncate(&mut self) {
        self.rows.clear();
        self.position += 1;
        self.log.push((self.position, None));
    }
}

impl Model {
    /// With `count` rows, captured.
    pub(super) fn with_rows(count: i64) -> Self {
        let model = Self::default();
        {
            let mut source = model.source();
            source.rows = (1..=count).map(|key| (key, format!("row {key}"))).collect();
            source.captured = true;
        }
        model
    }

    pub(super) fn source(&self) -> MutexGuard<'_, SourceData> {
        self.source.lock().unwrap()
    }

    pub(super) fn target(&self) -> MutexGuard<'_, TargetData> {
        self.target.lock().unwrap()
    }

    pub(super) fn is_equal(&self) -> bool {
        let rows = self.source().rows.clone();
        self.target().rows == rows
    }

    pub(super) fn stream() -> Stream {
        let mapping = Mapping {
            table: "item".to_owned(),
            key: vec!["id".to_owned()],
            columns: vec!["id".to_owned(), "name".to_owned()],
            carries: vec!["id".to_owned()],
            select: "SELECT id, name FROM item WHERE {keys id}".to_owned(),
            root: "item".to_owned(),
            root_key: vec!["id".to_owned()],
            joins: Vec::new(),
        };
        Stream { name: "items".to_owned(), mappings: vec![mapping], forward: Vec::new() }
    }
}

/// Keys with their rows; a key alone has no text.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelRows(pub(super) Vec<(i64, String)>);

impl ModelRows {
    pub(super) fn keys(keys: impl IntoIterator<Item = i64>) -> Self {
        Self(keys.into_iter().map(|key| (key, String::new())).collect())
    }
}

impl Rows for ModelRows {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, text)| 8 + text.len() as u64).sum()
    }

    fn hash(&self) -> u64 {
        hash(&self.0) as u64
    }
}

impl Driver for Model {
    type Rows = ModelRows;
    type Source = ModelSource;
    type Target = ModelTarget;

    fn source(&self) -> Result<ModelSource, MigrateError> {
        source::reachable(&self.source())?;
        Ok(ModelSource::new(Arc::clone(&self.source)))
    }

    fn target(&self) -> Result<ModelTarget, MigrateError> {
        target::reachable(&self.target())?;
        Ok(ModelTarget::new(Arc::clone(&self.target)))
    }

    fn reversed(&self) -> Self {
        panic!("a model is copied one way only")
    }
}

fn away(which: &str) -> MigrateError {
    MigrateError::Unreachable { message: format!("the {which} is away"), source: None }
}

fn seen(position: &Position) -> u64 {
    position.0.parse().unwrap()
}

fn key(bound: &Bound) -> i64 {
    bound.0.parse().unwrap()
}

fn bound(key: i64) -> Bound {
    Bound(key.to_string())
}

fn within(range: &KeyRange, wanted: i64) -> bool {
    range.after.as_ref().is_none_or(|after| wanted > key(after))
        && range.up_to.as_ref().is_none_or(|up_to| wanted <= key(up_to))
}

fn sum<T: std::hash::Hash>(rows: &[T]) -> Sum {
    let hash = rows.iter().fold(0, |sum: u64, row| sum.wrapping_add(hash(row).cast_unsigned()));
    Sum { rows: rows.len() as u64, hash }
}

fn hash(value: &impl std::hash::Hash) -> i64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish().cast_signed()
}
