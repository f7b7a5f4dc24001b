//! Rows in a batch's way: those of other source keys that hold a unique value which the batch needs.
//!
//! Invariant: a row joins a batch only if it is ours: the snapshot accounts for its key, or the stream was begun over rows that
//! were said to be ours. It is written as the batch's snapshot has it, under the batch's guard, so a chunk leaves it out if
//! catch-up brought it further; where the snapshot has nothing of it, it is removed.

use super::compare::CompareSource as _;
use super::driver::{Batch, Driver, Joining, Position, Rows as _, Source as _, Target as _};
use super::mapping::{Mapping, Stream};
use super::way_back::WayBack;
use crate::error::MigrateError;

/// The note of a stream that was begun over rows of an older copy.
pub(crate) const ADOPTED: &str = "adopted";
/// What it says.
pub(crate) const AN_OLDER_COPY: &str = "its rows are an older copy";

/// Where it is told whose the rows are.
pub(super) struct InTheWay<'a, D: Driver> {
    pub(super) source: &'a mut D::Source,
    pub(super) target: &'a mut D::Target,
    pub(super) way_back: Option<&'a mut WayBack<D>>,
    pub(super) stream: &'a Stream,
    pub(super) mapping: &'a Mapping,
}

impl<D: Driver> InTheWay<'_, D> {
    /// The batch with those of the holders that are ours; nothing if none joins it.
    pub(super) fn join(
        self,
        batch: &Batch<D::Rows>,
        holders: &D::Rows,
        since: &Position,
    ) -> Result<Option<Batch<D::Rows>>, MigrateError> {
        let Self { source, target, way_back, stream, mapping } = self;
        let wider = source.widen(mapping, batch, holders, Joining::AccountedFor(since))?;
        if wider.is_some() || holders.is_empty() || target.note(&stream.name, ADOPTED)?.is_none() {
            return Ok(wider);
        }
        let Some(way_back) = way_back else { return source.widen(mapping, batch, holders, Joining::All) };
        // What the way there makes nothing of is the monolith's alone: the service cannot have given it away.
        let keys = source.bounds(mapping, holders)?;
        let outdated = way_back.outdated(mapping, &keys)?;
        let outdated = source.keys(mapping, &outdated)?;
        source.widen(mapping, batch, &outdated, Joining::All)
    }
}
