//! The writing end.
//!
//! Invariant: a method is one transaction, or several that may be run again; rows of tables are written in [`super::apply`] and
//! [`super::loading`] only.

use std::sync::Arc;

use super::connection::{Connection, Place};
use super::rows::CopyRows;
use super::shape::{Shape, Shapes};
use super::sql::{self, value};
use super::staging::same;
use super::{apply, bookkeeping, chunks, loading, privileges, sequences};
use crate::engine::driver::{ChunksLeft, LeaseState, RangeEnd};
use crate::engine::{
    Batch, Bound, ChunkDone, Claim, Guard, Kept, KeyRange, Lease, Mapping, Outcome, Position, Stream,
    StreamRow, Target,
};
use crate::error::MigrateError;

/// A connection to the target.
pub struct PostgresTarget {
    pub(super) connection: Connection,
    /// For what must commit while a snapshot is open.
    side: Option<Connection>,
    pub(super) source: Arc<Place>,
    pub(super) shapes: Arc<Shapes>,
    pub(super) in_snapshot: bool,
}

/// Rows of a mapping's table with their source keys, as SQL.
pub(super) struct Keyed {
    /// What stands behind FROM; the table is `t`.
    pub(super) from: String,
    /// Expressions for the source key.
    pub(super) key: Vec<String>,
}

impl PostgresTarget {
    pub(super) fn open(
        place: &Arc<Place>,
        source: &Arc<Place>,
        shapes: &Arc<Shapes>,
    ) -> Result<Self, MigrateError> {
        let connection = place.open("writes")?;
        let (source, shapes) = (Arc::clone(source), Arc::clone(shapes));
        Ok(Self { connection, side: None, source, shapes, in_snapshot: false })
    }

    pub(super) fn side(&mut self) -> Result<&mut Connection, MigrateError> {
        let side = match self.side.take() {
            Some(side) => side,
            None => self.connection.place.open("notes")?,
        };
        Ok(self.side.insert(side))
    }

    /// What failed because somebody altered a table meanwhile is told as that.
    fn explained<T>(&self, mapping: &Mapping, done: Result<T, MigrateError>) -> Result<T, MigrateError> {
        self.shapes.forget_after(&done);
        if matches!(done, Err(MigrateError::Failed { .. } | MigrateError::Refused { .. })) {
            self.shapes.of(mapping)?;
        }
        done
    }

    fn shapes_of(&self, stream: &Stream) -> Result<Vec<Arc<Shape>>, MigrateError> {
        self.shapes.all(&stream.mappings)
    }
}

/// Where source keys are found at the target.
pub(super) fn keyed(mapping: &Mapping, shape: &Shape) -> Keyed {
    let table = &shape.target.name;
    if !mapping.needs_key_map() {
        let key = mapping.carries.iter().map(|column| format!("t.{}", sql::name(column))).collect();
        return Keyed { from: format!("{table} t"), key };
    }
    let own: Vec<String> = mapping.key.iter().map(|column| format!("t.{}", sql::name(column))).collect();
    let mapped: Vec<String> = (0..own.len()).map(|at| format!("m.k{at}")).collect();
    let from = format!("{table} t JOIN {} m ON {}", bookkeeping::key_map(shape), same(&mapped, &own));
    Keyed { from, key: (0..shape.key_types.len()).map(|at| format!("m.s{at}")).collect() }
}

impl Target for PostgresTarget {
    type Rows = CopyRows;

    fn prepare(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        privileges::check_target(&mut self.connection, stream)?;
        bookkeeping::prepare(&mut self.connection)?;
        for mapping in &stream.mappings {
            let shape = self.shapes.of(mapping)?;
            bookkeeping::needs_same_table(&mut self.connection, stream, &shape.target.name)?;
            if mapping.needs_key_map() {
                bookkeeping::prepare_key_map(&mut self.connection, mapping, &shape)?;
            }
        }
        Ok(())
    }

    fn stream(&mut self, name: &str) -> Result<Option<StreamRow>, MigrateError> {
        bookkeeping::stream(&mut self.connection, name)
    }

    fn create_stream(&mut self, name: &str, row: &StreamRow) -> Result<(), MigrateError> {
        bookkeeping::create(&mut self.connection, name, row)
    }

    fn forget_stream(&mut self, stream: &Stream, kept: Kept) -> Result<(), MigrateError> {
        bookkeeping::prepare(&mut self.connection)?;
        let shapes = self.shapes_of(stream)?;
        if self
            .connection
            .holds(&format!("EXISTS (SELECT FROM banyan.dropped WHERE stream = {})", value(&stream.name)))?
        {
            loading::finish(&mut self.connection, stream, &shapes)?;
        }
        let drops = |mapping: &Mapping| kept != Kept::RowsAndKeyMaps && mapping.needs_key_map();
        let dropped = stream.mappings.iter().zip(&shapes).filter(|(mapping, _)| drops(mapping));
        let maps: Vec<String> = dropped.map(|(_, shape)| bookkeeping::key_map(shape)).collect();
        bookkeeping::forget(&mut self.connection, stream, kept, &maps)
    }

    fn is_empty(&mut self, stream: &Stream) -> Result<bool, MigrateError> {
        for shape in self.shapes_of(stream)? {
            if self.connection.holds(&format!("EXISTS (SELECT FROM {})", shape.target.name))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn claim(&mut self, name: &str) -> Result<Claim, MigrateError> {
        bookkeeping::claim(&mut self.connection, name)
    }

    fn set_next(&mut self, claim: &Claim, next: &Position) -> Result<bool, MigrateError> {
        let next = format!("next = {}", value(&next.0));
        bookkeeping::set_under(&mut self.connection, claim, &next, "TRUE")
    }

    fn set_pos(&mut self, claim: &Claim, as_read: &Position, pos: &Position) -> Result<bool, MigrateError> {
        let (change, still) = (format!("pos = {}", value(&pos.0)), format!("pos = {}", value(&as_read.0)));
        bookkeeping::set_under(&mut self.connection, claim, &change, &still)
    }

    fn known_keys(
        &mut self,
        mapping: &Mapping,
        after: Option<&Bound>,
        rows: u32,
    ) -> Result<(CopyRows, Option<Bound>), MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let Keyed { from, key } = keyed(mapping, &shape);
        let columns = key.join(", ");
        let names = sql::numbered("k", key.len());
        let mut range = KeyRange { after: after.cloned(), up_to: None };
        let distinct = |range: &KeyRange| -> Result<String, MigrateError> {
            let within = sql::within(&columns, &shape.key_casts(), range)?;
            Ok(format!(
                "(SELECT DISTINCT {columns} FROM {from} WHERE {within} AND num_nulls({columns}) = 0) d({names})"
            ))
        };
        let places: Vec<String> = (0..key.len()).map(|at| format!("d.k{at}")).collect();
        let last = self.connection.text(&format!(
            "SELECT {} FROM {} ORDER BY {names} OFFSET {} LIMIT 1",
            shape.bound(&places),
            distinct(&range)?,
            rows.saturating_sub(1)
        ))?;
        range.up_to = last.map(Bound);
        let on_wire = shape.root_key_on_wire(&places);
        let keys = self.connection.copy_out(&format!("SELECT {on_wire} FROM {}", distinct(&range)?))?;
        Ok((keys, range.up_to))
    }

    fn apply(
        &mut self,
        guard: Guard<'_, CopyRows>,
        mapping: &Mapping,
        batch: &Batch<CopyRows>,
    ) -> Result<Outcome<CopyRows>, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let applied = apply::apply(&mut self.connection, guard, mapping, &shape, batch);
        self.explained(mapping, applied)
    }

    fn lease_chunk(
        &mut self,
        stream: &Stream,
        seconds: u32,
        end: &mut RangeEnd<'_>,
    ) -> Result<Option<Lease>, MigrateError> {
        chunks::lease(&mut self.connection, stream, seconds, end)
    }

    fn register_chunk(&mut self, lease: &Lease, snapshot: &Position) -> Result<bool, MigrateError> {
        chunks::register(&mut self.connection, lease, snapshot)
    }

    fn split_chunk(&mut self, lease: &Lease, end: &Bound) -> Result<bool, MigrateError> {
        chunks::split(&mut self.connection, lease, end)
    }

    fn release_chunk(&mut self, lease: &Lease) -> Result<(), MigrateError> {
        chunks::release(&mut self.connection, lease)
    }

    fn chunks_left(&mut self, stream: &Stream) -> Result<ChunksLeft, MigrateError> {
        chunks::left(&mut self.connection, stream)
    }

    fn load(
        &mut self,
        done: ChunkDone<'_>,
        mapping: &Mapping,
        batch: &Batch<CopyRows>,
    ) -> Result<bool, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let loaded = loading::load(&mut self.connection, done, mapping, &shape, batch);
        self.explained(mapping, loaded)
    }

    fn begin_loading(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let shapes = self.shapes_of(stream)?;
        loading::begin(&mut self.connection, stream, &shapes)
    }

    fn finish_loading(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let shapes = self.shapes_of(stream)?;
        loading::finish(&mut self.connection, stream, &shapes)
    }

    fn check_loaded(&mut self, stream: &Stream) -> Result<Vec<String>, MigrateError> {
        loading::check(&mut self.connection, stream)
    }

    fn needed_positions(&mut self, name: &str) -> Result<Vec<Position>, MigrateError> {
        bookkeeping::needed(&mut self.connection, name)
    }

    fn move_sequences(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let mut source = self.source.open("sequences")?;
        for mapping in &stream.mappings {
            let shape = self.shapes.of(mapping)?;
            sequences::move_past(&mut source, &mut self.connection, mapping, &shape)?;
        }
        Ok(())
    }

    fn note(&mut self, stream: &str, name: &str) -> Result<Option<String>, MigrateError> {
        bookkeeping::note(self.side()?, stream, name)
    }

    fn set_note(&mut self, stream: &str, name: &str, text: Option<&str>) -> Result<(), MigrateError> {
        bookkeeping::set_note(self.side()?, stream, name, text)
    }

    fn leases(&mut self, stream: &str) -> Result<Vec<LeaseState>, MigrateError> {
        chunks::under_way(&mut self.connection, stream)
    }
}
