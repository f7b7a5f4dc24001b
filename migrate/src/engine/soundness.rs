//! Whether changes of everything that a mapping's select reads are followed.
//!
//! Invariant: what is refused here would go stale at the target without a word.

use super::compare::TableRead;
use super::mapping::Mapping;
use super::select_text::{judged_over_keys, references};
use crate::error::MigrateError;

/// Refuses a select that reads a table which the mapping does not name, or its root where it is not restricted.
pub(crate) fn needs_joins(mapping: &Mapping, reads: &[TableRead]) -> Result<(), MigrateError> {
    let joined = |table: &str| mapping.joins.iter().any(|join| join.table == table);
    if let Some(read) = reads.iter().find(|read| read.table != mapping.root && !joined(&read.table)) {
        return Err(MigrateError::refused(
            format!(
                "the select for {} reads {}, which it does not name as a join: changes there would not be followed",
                mapping.table, read.table
            ),
            format!(
                "add a join to it (`[[mapping.join]]` or `[[inverse.join]]`) with table = \"{}\", the columns that it is joined \
                 by, and the keys that they concern",
                read.table
            ),
        ));
    }
    let (read, restricted) =
        (references(&mapping.select, &mapping.root), mapping.select.matches("{keys ").count());
    if read <= restricted || joined(&mapping.root) {
        return Ok(());
    }
    Err(MigrateError::refused(
        format!(
            "the select for {} reads {} {read} times and restricts it {restricted} times: changes of the other rows would not \
             be followed",
            mapping.table, mapping.root
        ),
        format!(
            "restrict each with {{keys …}}, or add a join to it with table = \"{}\", the columns that it is joined by, and the \
             keys that they concern",
            mapping.root
        ),
    ))
}

/// Refuses a select whose rows of a key depend on which other keys are asked for beside it: they would be others in a
/// chunk, a batch and a verification, which might still hold them equal.
pub(crate) fn goes_by_key(mapping: &Mapping) -> Result<(), MigrateError> {
    let by_joins = || mapping.joins.iter().find_map(|join| judged_over_keys(join.keys.as_deref()?, "values"));
    let Some(what) = judged_over_keys(&mapping.select, "keys").or_else(by_joins) else { return Ok(()) };
    Err(MigrateError::refused(
        format!(
            "the select for {} has {what} over the rows of all keys that are asked for at once: what it makes of one key \
             depends on the others",
            mapping.table
        ),
        "take it out, or let it see the rows of one source key only: LIMIT and the like in a subselect that finds them by \
         the key (LATERAL), a window with PARTITION BY and DISTINCT ON with the whole source key, written as in {keys …}",
    ))
}

/// The refusal of a function that does not give the same from the same rows.
pub(crate) fn not_the_same(mapping: &Mapping, function: &str, remedy: &str) -> MigrateError {
    MigrateError::refused(
        format!(
            "the select for {} calls {function}, which does not give the same from the same rows: nothing it makes could be \
             compared",
            mapping.table
        ),
        remedy,
    )
}

/// The refusal of a mapping that reads the table which it fills.
pub(crate) fn reads_itself(mapping: &Mapping) -> MigrateError {
    MigrateError::refused(
        format!("source and target are one database, and {} is read and filled", mapping.table),
        "name another database or another table",
    )
}
