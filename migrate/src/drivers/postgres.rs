//! PostgreSQL 13 and newer, as source and as target.
//!
//! Rows pass as the tuples of a binary COPY ([`rows`]). A position is what a snapshot saw ([`position`]); capture is triggers that
//! write a typed log ([`capture`]).
//!
//! Invariant: names of tables are resolved by the server and quoted by it; values enter a statement as parameters, or as
//! literals quoted in [`sql`] where COPY takes no parameters.

mod capture;
mod compare;
mod connection;
mod fingerprint;
mod peer;
mod position;
mod rows;
mod shape;
mod source;
mod sql;
mod target;
#[cfg(test)]
mod tests;

use connection::{Address, End};
use peer::Peer;

use crate::engine::Driver;
use crate::error::MigrateError;

pub use rows::PgRows;
pub use source::PgSource;
pub use target::PgTarget;

/// Two PostgreSQL databases.
pub struct PgDriver {
    source: Address,
    target: Address,
}

impl PgDriver {
    /// By their URLs; nothing is connected to yet.
    pub fn new(source: &str, target: &str) -> Result<Self, MigrateError> {
        Ok(Self { source: Address::new(source, End::Source)?, target: Address::new(target, End::Target)? })
    }
}

impl std::fmt::Debug for PgDriver {
    /// Without the URLs, which hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgDriver").finish_non_exhaustive()
    }
}

impl Driver for PgDriver {
    type Rows = PgRows;
    type Source = PgSource;
    type Target = PgTarget;

    fn source(&self) -> Result<PgSource, MigrateError> {
        PgSource::connect(&self.source, Peer::new(self.target.clone()))
    }

    fn target(&self) -> Result<PgTarget, MigrateError> {
        PgTarget::connect(&self.target, Peer::new(self.source.clone()))
    }
}
