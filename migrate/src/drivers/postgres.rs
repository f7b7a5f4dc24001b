//! The PostgreSQL driver, for 13 and newer: rows pass as the bytes of binary COPY, from one server's output to the other's
//! input.
//!
//! Invariant: both ends of a column are of one type on the wire, that of the target's column; the source's select casts to it,
//! and a cast that could lose something is refused.

mod apply;
mod bookkeeping;
mod bound;
mod capture;
mod catalog;
mod chunks;
mod collation;
mod collisions;
mod comparing;
mod connection;
mod fault;
mod fingerprint;
mod load;
mod loading;
mod log;
mod position;
mod privileges;
mod reads;
mod rehearsal;
mod row_hash;
mod rows;
mod sequences;
mod shape;
mod source;
mod sql;
mod staging;
mod survey;
mod target;
mod tls;
mod types;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use rows::CopyRows;
pub use source::PostgresSource;
pub use target::PostgresTarget;

use crate::engine::Driver;
use crate::error::MigrateError;
use connection::Place;
use shape::Shapes;

/// Two PostgreSQL databases.
#[derive(Debug, Clone)]
pub struct PostgresDriver {
    source: Arc<Place>,
    target: Arc<Place>,
    shapes: Arc<Shapes>,
}

/// How the driver's connections behave.
#[derive(Debug, Clone, Copy)]
pub struct PostgresOptions {
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// How long a lock is waited for, before the engine is told to try again. Writers queue behind the lock that installs a
    /// trigger, so this is the longest pause that the application can see.
    pub lock: Duration,
    /// How long one statement may run; building an index is exempt.
    pub statement: Duration,
    /// After how long the server ends a transaction in which nothing happens.
    pub idle: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            lock: Duration::from_secs(2),
            statement: Duration::from_secs(600),
            idle: Duration::from_secs(600),
        }
    }
}

impl PostgresDriver {
    /// Copies from one database to another, named by `postgres://` URLs.
    pub fn new(source: &str, target: &str, options: PostgresOptions) -> Result<Self, MigrateError> {
        let source = Arc::new(Place::parse("source", source, options)?);
        let target = Arc::new(Place::parse("target", target, options)?);
        let shapes = Arc::new(Shapes::new(Arc::clone(&source), Arc::clone(&target)));
        Ok(Self { source, target, shapes })
    }
}

impl Driver for PostgresDriver {
    type Rows = CopyRows;
    type Source = PostgresSource;
    type Target = PostgresTarget;

    fn source(&self) -> Result<PostgresSource, MigrateError> {
        PostgresSource::open(&self.source, &self.shapes)
    }

    fn target(&self) -> Result<PostgresTarget, MigrateError> {
        PostgresTarget::open(&self.target, &self.source, &self.shapes)
    }

    fn reversed(&self) -> Self {
        let (source, target) = (Arc::clone(&self.target), Arc::clone(&self.source));
        let shapes = Arc::new(Shapes::new(Arc::clone(&source), Arc::clone(&target)));
        Self { source, target, shapes }
    }
}
