//! Where in the source's log a snapshot stood.
//!
//! Invariant: a place of another log, or of an earlier life of the same one, is refused, never compared.

use crate::engine::Position;
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
        place.ok_or_else(|| void(&format!("{:?} is no position in a SQLite log", position.0)))
    }

    /// The number, if the position is of this log.
    pub(super) fn of(log: &str, position: &Position) -> Result<i64, MigrateError> {
        let place = Self::parse(position)?;
        if place.log != log {
            return Err(void(&format!(
                "the position {} is of another log than the source's, which is {log}",
                position.0
            )));
        }
        Ok(place.pos)
    }
}

/// The stored position means nothing any more.
pub(super) fn void(reason: &str) -> MigrateError {
    MigrateError::refused(
        format!("{reason}: the file or its capture was replaced, so changes may have gone unlogged"),
        "copy anew: `migrate capture install CONTEXT`, then `migrate backfill CONTEXT --again`",
    )
}
