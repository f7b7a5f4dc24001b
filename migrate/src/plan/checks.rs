//! The checks of a plan.
//!
//! Invariant: every check only reads, and says in one line what is wrong and where.

use crate::backfill::foreign_rows;
use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::flow::{End, Flow};
use crate::manifest::TableMap;
use crate::plan::{ColumnPlan, Plan};
use crate::sqlite::{Pair, describe, show};

const CONTRACT: [&str; 3] = ["banyan_contexts", "banyan_intents", "banyan_tombstones"];

/// Who owns, who follows, and whether the side to be filled is ours to fill.
pub(super) fn roles(
    extraction: &Extraction,
    pair: &Pair,
    flow: Flow,
    plan: &mut Plan,
) -> Result<(), MigrateError> {
    let context = extraction.context();
    let mut complete = true;
    for end in [End::Source, End::Target] {
        for table in CONTRACT {
            if !pair.has_table(end, table)? {
                complete = false;
                plan.problems
                    .push(format!("the {end} database has no table {table}: start the {} once", end.side()));
            }
        }
        if complete && pair.context_state(end, context)?.is_none() {
            plan.problems.push(format!(
                "the {end} database does not know the context {context}: start the {} once",
                end.side()
            ));
        }
    }
    if !complete {
        return Ok(());
    }
    if pair.context_state(flow.to, context)?.is_some_and(|state| !state.closed) {
        plan.problems.push(format!(
            "the {} accepts writes of {context}, so it is no copy to be filled",
            flow.to.side()
        ));
    }
    if !pair.misfits(&extraction.manifest)?.iter().any(|misfit| misfit.contains("has no table"))
        && let Some(reason) = foreign_rows(extraction, pair, flow)?
    {
        plan.problems.push(reason);
    }
    if !pair.context_state(flow.from, context)?.is_some_and(|state| state.dual_write) {
        plan.notes
            .push(format!("dual-write is off: run `migrate dual-write {context} on` before the backfill"));
    }
    Ok(())
}

/// Triggers, columns that nothing writes, ids that could come back.
pub(super) fn schema(
    extraction: &Extraction,
    pair: &Pair,
    flow: Flow,
    plan: &mut Plan,
) -> Result<(), MigrateError> {
    let manifest = &extraction.manifest;
    for trigger in pair.triggers(flow.to, &manifest.tables(flow.to).tables)? {
        plan.problems.push(format!(
            "the trigger {} on the {} table {} would fire on copied rows",
            trigger.name, flow.to, trigger.table
        ));
    }
    for end in [End::Source, End::Target] {
        let tables = manifest.tables(end);
        let Some(shape) = pair.shape(end, &tables.root)? else { continue };
        if shape.column(&tables.key).is_some_and(|key| key.declared.contains("INT")) && !shape.autoincrement {
            plan.problems.push(format!(
                "the {end} table {} has no AUTOINCREMENT, so ids of deleted rows would be given out again",
                tables.root
            ));
        }
        if !pair.has_index_on(end, &tables.root, &tables.version)? {
            plan.notes.push(format!(
                "the {end} table {} has no index on {}: a switch would read the whole table while writes are held",
                tables.root, tables.version
            ));
        }
        for map in manifest.maps_into(end) {
            let Some(shape) = pair.shape(end, &map.table)? else { continue };
            let left_out = shape.columns.iter().filter(|column| !column.generated);
            for column in left_out.filter(|column| !map.columns.contains(&column.name)) {
                plan.notes.push(format!(
                    "{} leaves out column {} of {}",
                    describe(end, map),
                    column.name,
                    map.table
                ));
            }
        }
    }
    Ok(())
}

/// Values that are not of the type their column declares: SQLite stores them, another schema may not.
pub(super) fn stored_types(
    extraction: &Extraction,
    pair: &Pair,
    end: End,
    plan: &mut Plan,
) -> Result<(), MigrateError> {
    for table in &extraction.manifest.tables(end).tables {
        let Some(shape) = pair.shape(end, table)?.filter(|shape| !shape.strict) else { continue };
        for column in &shape.columns {
            let Some(classes) = column.storage_classes() else { continue };
            let count = pair.count_of_other_classes(end, table, &column.name, classes)?;
            if count > 0 {
                plan.problems.push(format!(
                    "{count} rows of the {end} table {table} hold something other than {} in column {}",
                    classes.join(" or "),
                    column.name
                ));
            }
        }
    }
    Ok(())
}

/// Keys that are NULL or of another kind.
pub(super) fn keys(
    extraction: &Extraction,
    pair: &Pair,
    end: End,
    plan: &mut Plan,
) -> Result<(), MigrateError> {
    for map in extraction.manifest.maps_into(end) {
        let count = pair.rows_without_key(end, map)?;
        if count > 0 {
            plan.problems.push(format!(
                "{count} rows of the {end} table {} have no key: {} is NULL",
                map.table,
                map.root_key()
            ));
        }
    }
    Ok(())
}

/// What a mapping makes of the present data: types, missing values, duplicates.
pub(super) fn mapped_rows(
    pair: &Pair,
    end: End,
    map: &TableMap,
    plan: &mut Plan,
) -> Result<(), MigrateError> {
    let Some(shape) = pair.shape(end, &map.table)? else { return Ok(()) };
    let name = describe(end, map);
    let (rows, profiles) = pair.profile(map)?;
    plan.set_mapped(end, &map.table, rows);
    for (column, profile) in map.columns.iter().zip(profiles) {
        let Some(shape) = shape.column(column) else { continue };
        let nulls = profile.count("null");
        if nulls > 0 && shape.not_null {
            plan.problems
                .push(format!("{name} makes {nulls} rows without a value for {column}, which must have one"));
        }
        let strange: i64 = match shape.storage_classes() {
            Some(classes) => profile.count_other_than(classes),
            None => 0,
        };
        if strange > 0 {
            plan.problems
                .push(format!("{name} makes {strange} rows whose {column} is no {}", shape.declared));
        }
        plan.columns.push(ColumnPlan {
            table: map.table.clone(),
            column: column.clone(),
            declared: shape.declared.clone(),
            not_null: shape.not_null,
            mapped: profile.to_string(),
        });
    }
    for index in pair.unique_indexes(end, &map.table)? {
        if index.columns.is_empty() {
            plan.notes
                .push(format!("the unique index {} is over expressions and was not checked", index.name));
            continue;
        }
        if let Some((count, example)) = pair.duplicates(map, &index)? {
            let example = example.iter().map(show).collect::<Vec<_>>().join(", ");
            plan.problems.push(format!(
                "{name} makes {count} values twice that the unique index {} allows once, for example {example}",
                index.name
            ));
        }
    }
    Ok(())
}
