//! Pruning: removes log rows that nobody will read again.
//!
//! Invariant: a log row is removed only when every position that is still needed saw it: that of the stream, of each chunk
//! under way, of each verification under way. A position is recorded at the target before anything relies on it.

use super::driver::{Driver, Source as _, Target as _};
use super::mapping::Stream;
use crate::error::MigrateError;

/// Removes what nobody needs; returns how many log rows.
pub fn prune<D: Driver>(
    source: &mut D::Source,
    target: &mut D::Target,
    stream: &Stream,
) -> Result<u64, MigrateError> {
    let needed = target.needed_positions(&stream.name)?;
    if needed.is_empty() {
        return Ok(0);
    }
    source.prune(stream, &needed)
}
