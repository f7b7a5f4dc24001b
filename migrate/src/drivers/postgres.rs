//! PostgreSQL 13 and newer, as source and as target.
//!
//! Rows pass as the tuples of a binary COPY ([`rows`]). A position is what a snapshot saw ([`position`]); capture is triggers that
//! write a typed log ([`capture`]).
//!
//! Invariant: names of tables are resolved by the server and quoted by it; values enter a statement as parameters, or as
//! literals quoted in [`sql`] where COPY takes no parameters.

mod capture;
mod connection;
mod fingerprint;
mod peer;
mod position;
mod rows;
mod shape;
mod source;
mod sql;
#[cfg(test)]
mod tests;

pub use rows::PgRows;
pub use source::PgSource;
