//! By which collations the two ends compare keys.
//!
//! Invariant: a column of the target finds rows by source key only if it tells all keys apart that the source tells apart.

use super::catalog::Table;
use super::sql::quote;
use crate::engine::Mapping;
use crate::error::MigrateError;

/// A column of the source key, and the target's that carries it, compared by another collation.
pub(super) struct Unlike<'a> {
    from: &'a str,
    to: &'a str,
    one: String,
    other: String,
}

impl Unlike<'_> {
    /// What it is about.
    pub(super) fn what(&self) -> String {
        let Self { from, to, one, other } = self;
        format!("the key {from} is compared by {one} at the source, {to} by {other} at the target")
    }

    /// Whether the target may hold keys equal that the source does not.
    pub(super) fn may_join(&self) -> bool {
        !self.other.eq_ignore_ascii_case("BINARY")
    }
}

/// What to do about one that may join keys.
pub(super) fn remedy(mapping: &Mapping) -> String {
    format!(
        "give both the same COLLATE: else rows of two source keys would be one; or say carries = [] in the mapping of {}, \
         so that a map keeps the keys as the source has them",
        mapping.table
    )
}

/// All such columns.
pub(super) fn unlike<'a>(mapping: &'a Mapping, root: &Table, table: &Table) -> Vec<Unlike<'a>> {
    let pairs = mapping.root_key.iter().zip(&mapping.carries);
    let compared =
        pairs.map(|(from, to)| Unlike { from, to, one: collation(root, from), other: collation(table, to) });
    compared.filter(|pair| !pair.one.eq_ignore_ascii_case(&pair.other)).collect()
}

/// Refuses a mapping whose target would take two source keys for one.
pub(super) fn refuse_joined_keys(mapping: &Mapping, root: &Table, table: &Table) -> Result<(), MigrateError> {
    match unlike(mapping, root, table).iter().find(|pair| pair.may_join()) {
        Some(pair) => Err(MigrateError::refused(pair.what(), remedy(mapping))),
        None => Ok(()),
    }
}

/// That of the index by which rows are found by the column.
fn collation(table: &Table, column: &str) -> String {
    let terms = table.uniques.iter().flat_map(|unique| &unique.terms);
    let mut found = terms.filter(|(term, _)| term.eq_ignore_ascii_case(&quote(column)));
    let own = || table.columns.iter().find(|one| one.name.eq_ignore_ascii_case(column));
    found
        .next_back()
        .map(|(_, collation)| collation.clone())
        .or_else(|| own().map(|column| column.collation.clone()))
        .unwrap_or_else(|| "BINARY".to_owned())
}
