//! Stands where an engine has no driver: whatever needs one is refused.
//!
//! Invariant: no value of its ends can exist.

use crate::engine::compare::{CompareSource, CompareTarget, Part, RowHash, ShownRow, Sum};
use crate::engine::{
    Batch, Bound, ChunksLeft, Claim, Dirty, Driver, Guard, KeyRange, Lease, Mapping, Outcome, Position, Rows,
    Source, Stream, StreamRow, Target, Touched,
};
use crate::error::MigrateError;

pub(super) struct Absent(pub(super) &'static str);

#[derive(Debug, Clone)]
pub(super) enum NoRows {}
pub(super) enum NoSource {}
pub(super) enum NoTarget {}

impl Absent {
    fn refusal<T>(&self) -> Result<T, MigrateError> {
        Err(MigrateError::refused(format!("this build has no driver for {}", self.0), "use one that has"))
    }
}

impl Driver for Absent {
    type Rows = NoRows;
    type Source = NoSource;
    type Target = NoTarget;

    fn source(&self) -> Result<NoSource, MigrateError> {
        self.refusal()
    }

    fn target(&self) -> Result<NoTarget, MigrateError> {
        self.refusal()
    }
}

impl Rows for NoRows {
    fn len(&self) -> u64 {
        match *self {}
    }
    fn hash(&self) -> u64 {
        match *self {}
    }
}

impl Source for NoSource {
    type Rows = NoRows;
    fn install_capture(&mut self, _: &Stream) -> Result<(), MigrateError> {
        match *self {}
    }
    fn remove_capture(&mut self, _: &Stream) -> Result<(), MigrateError> {
        match *self {}
    }
    fn begin(&mut self, _: &Stream, _: Option<&str>) -> Result<Position, MigrateError> {
        match *self {}
    }
    fn fingerprint(&mut self, _: &Stream) -> Result<String, MigrateError> {
        match *self {}
    }
    fn persist_snapshot(&mut self) -> Result<(), MigrateError> {
        match *self {}
    }
    fn end(&mut self) -> Result<(), MigrateError> {
        match *self {}
    }
    fn covers(&self, _: &Position, _: &Position) -> Result<bool, MigrateError> {
        match *self {}
    }
    fn stage_dirty(&mut self, _: &Mapping, _: &Position) -> Result<Dirty, MigrateError> {
        match *self {}
    }
    fn stage_all(&mut self, _: &Mapping) -> Result<(), MigrateError> {
        match *self {}
    }
    fn stage(&mut self, _: &Mapping, _: &NoRows) -> Result<(), MigrateError> {
        match *self {}
    }
    fn piece(&mut self, _: &Mapping, _: u64, _: u32) -> Result<Option<Batch<NoRows>>, MigrateError> {
        match *self {}
    }
    fn widen(
        &mut self,
        _: &Mapping,
        _: &Batch<NoRows>,
        _: &NoRows,
    ) -> Result<Option<Batch<NoRows>>, MigrateError> {
        match *self {}
    }
    fn range_end(&mut self, _: &Mapping, _: Option<&Bound>, _: u32) -> Result<Option<Bound>, MigrateError> {
        match *self {}
    }
    fn range(&mut self, _: &Mapping, _: &KeyRange) -> Result<Batch<NoRows>, MigrateError> {
        match *self {}
    }
    fn rows_of(&mut self, _: &Mapping, _: &NoRows) -> Result<Batch<NoRows>, MigrateError> {
        match *self {}
    }
    fn estimate(&mut self, _: &Mapping) -> Result<u64, MigrateError> {
        match *self {}
    }
    fn touched(&mut self, _: &Mapping, _: &Position, _: &Position) -> Result<Touched<NoRows>, MigrateError> {
        match *self {}
    }
    fn prune(&mut self, _: &Stream, _: &[Position]) -> Result<u64, MigrateError> {
        match *self {}
    }
    fn log_size(&mut self, _: &Stream) -> Result<(u64, u64), MigrateError> {
        match *self {}
    }
}

impl Target for NoTarget {
    type Rows = NoRows;
    fn prepare(&mut self, _: &Stream) -> Result<(), MigrateError> {
        match *self {}
    }
    fn stream(&mut self, _: &str) -> Result<Option<StreamRow>, MigrateError> {
        match *self {}
    }
    fn create_stream(&mut self, _: &str, _: &StreamRow) -> Result<(), MigrateError> {
        match *self {}
    }
    fn forget_stream(&mut self, _: &Stream) -> Result<(), MigrateError> {
        match *self {}
    }
    fn is_empty(&mut self, _: &Stream) -> Result<bool, MigrateError> {
        match *self {}
    }
    fn claim(&mut self, _: &str) -> Result<Claim, MigrateError> {
        match *self {}
    }
    fn set_next(&mut self, _: &Claim, _: &Position) -> Result<bool, MigrateError> {
        match *self {}
    }
    fn set_pos(&mut self, _: &Claim, _: &Position, _: &Position) -> Result<bool, MigrateError> {
        match *self {}
    }
    fn known_keys(
        &mut self,
        _: &Mapping,
        _: Option<&Bound>,
        _: u32,
    ) -> Result<(NoRows, Option<Bound>), MigrateError> {
        match *self {}
    }
    fn apply(
        &mut self,
        _: Guard<'_, NoRows>,
        _: &Mapping,
        _: &Batch<NoRows>,
    ) -> Result<Outcome<NoRows>, MigrateError> {
        match *self {}
    }
    fn lease_chunk(
        &mut self,
        _: &Stream,
        _: u32,
        _: &mut crate::engine::driver::RangeEnd<'_>,
    ) -> Result<Option<Lease>, MigrateError> {
        match *self {}
    }
    fn register_chunk(&mut self, _: &Lease, _: &Position) -> Result<bool, MigrateError> {
        match *self {}
    }
    fn release_chunk(&mut self, _: &Lease) -> Result<(), MigrateError> {
        match *self {}
    }
    fn chunks_left(&mut self, _: &Stream) -> Result<ChunksLeft, MigrateError> {
        match *self {}
    }
    fn load(&mut self, _: &Lease, _: &Mapping, _: &Batch<NoRows>) -> Result<bool, MigrateError> {
        match *self {}
    }
    fn begin_loading(&mut self, _: &Stream) -> Result<(), MigrateError> {
        match *self {}
    }
    fn finish_loading(&mut self, _: &Stream) -> Result<(), MigrateError> {
        match *self {}
    }
    fn needed_positions(&mut self, _: &str) -> Result<Vec<Position>, MigrateError> {
        match *self {}
    }
    fn move_sequences(&mut self, _: &Stream) -> Result<(), MigrateError> {
        match *self {}
    }
}

impl CompareSource for NoSource {
    fn orders_alike(&mut self, _: &Mapping) -> Result<bool, MigrateError> {
        match *self {}
    }
    fn sum(&mut self, _: &Mapping, _: &Part) -> Result<Sum, MigrateError> {
        match *self {}
    }
    fn row_hashes(&mut self, _: &Mapping, _: &Part) -> Result<Vec<RowHash>, MigrateError> {
        match *self {}
    }
    fn show(&mut self, _: &Mapping, _: &[Bound]) -> Result<Vec<ShownRow>, MigrateError> {
        match *self {}
    }
    fn dirty_among(&mut self, _: &Mapping, _: &Position, _: &[Bound]) -> Result<Vec<Bound>, MigrateError> {
        match *self {}
    }
    fn keys(&mut self, _: &Mapping, _: &[Bound]) -> Result<NoRows, MigrateError> {
        match *self {}
    }
}

impl CompareTarget for NoTarget {
    fn snapshot(&mut self, _: &Stream) -> Result<Option<StreamRow>, MigrateError> {
        match *self {}
    }
    fn end_snapshot(&mut self) -> Result<(), MigrateError> {
        match *self {}
    }
    fn sum(&mut self, _: &Mapping, _: &Part) -> Result<Sum, MigrateError> {
        match *self {}
    }
    fn row_hashes(&mut self, _: &Mapping, _: &Part) -> Result<Vec<RowHash>, MigrateError> {
        match *self {}
    }
    fn show(&mut self, _: &Mapping, _: &[Bound]) -> Result<Vec<ShownRow>, MigrateError> {
        match *self {}
    }
    fn rows_without_key(&mut self, _: &Mapping) -> Result<u64, MigrateError> {
        match *self {}
    }
    fn hold(&mut self, _: &str, _: &str, _: &Position, _: u32) -> Result<(), MigrateError> {
        match *self {}
    }
    fn drop_hold(&mut self, _: &str, _: &str) -> Result<(), MigrateError> {
        match *self {}
    }
}
