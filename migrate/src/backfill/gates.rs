//! What must hold before a backfill writes anything, and at every chunk.
//!
//! Invariant: the roles (who owns, who follows, that dual-write is on) are read in the chunk's own transaction.

use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::flow::{End, Flow};
use crate::sqlite::Pair;

/// Dual-write is on, in the flag and in the owner's own row.
pub(super) fn needs_dual_write(extraction: &Extraction, pair: &Pair, flow: Flow) -> Result<(), MigrateError> {
    if !extraction.flag()?.dual_write {
        return Err(dual_write_is_off(extraction));
    }
    needs_roles(extraction, pair, flow)
}

/// The owner sends its writes, and the other side takes no client writes.
pub(super) fn needs_roles(extraction: &Extraction, pair: &Pair, flow: Flow) -> Result<(), MigrateError> {
    let context = extraction.context();
    if !pair.known_context(flow.from, context)?.dual_write {
        return Err(dual_write_is_off(extraction));
    }
    if !pair.known_context(flow.to, context)?.closed {
        let side = flow.to.side();
        return Err(MigrateError::refused(
            format!("the {side} accepts writes of {context}, so it is no copy to be filled"),
            format!("run `migrate status {context}`: the owner may just have changed"),
        ));
    }
    Ok(())
}

fn dual_write_is_off(extraction: &Extraction) -> MigrateError {
    let context = extraction.context();
    MigrateError::refused(
        format!("dual-write of {context} is off, so changes during the copy would be lost"),
        format!("run `migrate dual-write {context} on`"),
    )
}

/// Rows that are there already came from dual-write or from a backfill.
pub(super) fn needs_our_target(extraction: &Extraction, pair: &Pair, flow: Flow) -> Result<(), MigrateError> {
    if let Some(reason) = foreign_rows(extraction, pair, flow)? {
        let side = flow.to.side();
        return Err(MigrateError::refused(
            reason,
            format!("empty them, or point the {side} at another database"),
        ));
    }
    Ok(())
}

/// Says which rows of the side to be filled are not ours, if any.
pub(crate) fn foreign_rows(
    extraction: &Extraction,
    pair: &Pair,
    flow: Flow,
) -> Result<Option<String>, MigrateError> {
    let (context, tables) = (extraction.context(), extraction.manifest.tables(flow.to));
    let delivered = pair.context_state(flow.to, context)?.is_some_and(|state| state.version > 0);
    if delivered || pair.progress(flow.to, context)?.is_some() || !pair.any_rows(flow.to, &tables.tables)? {
        return Ok(None);
    }
    let tables = tables.tables.join(", ");
    Ok(Some(format!(
        "the {} tables {tables} hold rows that neither dual-write nor a backfill put there",
        flow.to
    )))
}

/// No trigger fires on what is copied, and nothing that the mapping does not write is overwritten.
pub(super) fn needs_quiet_target(
    extraction: &Extraction,
    pair: &Pair,
    flow: Flow,
) -> Result<(), MigrateError> {
    let manifest = &extraction.manifest;
    if let Some(trigger) = pair.triggers(flow.to, &manifest.tables(flow.to).tables)?.first() {
        return Err(MigrateError::refused(
            format!(
                "the trigger {} on the {} table {} would fire on copied rows",
                trigger.name, flow.to, trigger.table
            ),
            "drop it until the copy is done",
        ));
    }
    if flow.to == End::Target {
        return Ok(());
    }
    // On the way back the rows are the monolith's own, with columns that the service may know nothing of.
    for map in manifest.maps(flow) {
        let shape = pair.shape(flow.to, &map.table)?;
        let columns = shape.iter().flat_map(|shape| &shape.columns);
        if let Some(column) =
            columns.filter(|column| !column.generated).find(|column| !map.columns.contains(&column.name))
        {
            return Err(MigrateError::refused(
                format!(
                    "a copy back would empty column {} of {}, which the inverse does not write",
                    column.name, map.table
                ),
                "add the column to the inverse, or rely on dual-write, which keeps it",
            ));
        }
    }
    Ok(())
}
