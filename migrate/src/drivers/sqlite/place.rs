//! Where in the source's log a snapshot stood.
//!
//! Invariant: a place of another log, or of an earlier life of the same one, is refused, never compared.

use super::log::Log;
use crate::engine::{Position, Stream};
use crate::error::MigrateError;

/// The greatest log row that a snapshot saw, and the log's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) log: String,
    pub(super) pos: i64,
    /// A hash of that row: a file put back from a backup gives the same numbers out again, to other rows.
    pub(super) row: String,
}

impl Place {
    pub(super) fn position(&self) -> Position {
        Position(format!("{}/{}/{}", self.log, self.pos, self.row))
    }

    pub(super) fn parse(position: &Position) -> Result<Self, MigrateError> {
        let mut parts = position.0.splitn(3, '/');
        let mut next = || parts.next().map(str::to_owned);
        let place = (|| Some(Self { log: next()?, pos: next()?.parse().ok()?, row: next()? }))();
        place.ok_or_else(|| MigrateError::failed(format!("{:?} is no position in a SQLite log", position.0)))
    }

    /// The number, if the position is of this log.
    pub(super) fn of(log: &Log, position: &Position) -> Result<i64, MigrateError> {
        let place = Self::parse(position)?;
        if place.log != log.identity {
            let reason = format!(
                "the position {} is of another log than the source's, which is {}",
                position.0, log.identity
            );
            return Err(void(&log.stream, &reason));
        }
        Ok(place.pos)
    }
}

/// The stored position means nothing any more.
pub(super) fn void(stream: &str, reason: &str) -> MigrateError {
    let stream = Stream { name: stream.to_owned(), mappings: Vec::new(), forward: Vec::new() };
    MigrateError::refused(
        format!("{reason}: the file or its capture was replaced, so changes may have gone unlogged"),
        stream.anew(),
    )
}
