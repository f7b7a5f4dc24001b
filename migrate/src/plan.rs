//! `migrate plan`: what would move, and everything found by query that would stand in the way. Changes nothing.
//!
//! Invariant: a plan without problems means that a backfill is accepted, and that no row of the present data is
//! refused by the filled side.

mod checks;

use control::Side;
use serde::Serialize;

use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::flow::{End, Flow};
use crate::sqlite::{Pair, describe};

/// Keys per second to expect of small rows on two cores; only for a first idea.
const KEYS_PER_SECOND: i64 = 100_000;

/// What would move.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Which context.
    pub context: String,
    /// The side whose data would be copied.
    pub from: Side,
    /// The side that would be filled.
    pub to: Side,
    /// Hash of the mapping.
    pub mapping_hash: String,
    /// The tables of both sides.
    pub tables: Vec<TablePlan>,
    /// The columns, mapped ones beside what is stored.
    pub columns: Vec<ColumnPlan>,
    /// What stands in the way, one line each.
    pub problems: Vec<String>,
    /// What is worth knowing, one line each.
    pub notes: Vec<String>,
    /// Keys to copy.
    pub keys: i64,
    /// Seconds that a copy is expected to take.
    pub seconds: i64,
}

/// One table.
#[derive(Debug, Clone, Serialize)]
pub struct TablePlan {
    /// Its side.
    pub side: Side,
    /// Its name.
    pub table: String,
    /// Rows it holds.
    pub rows: i64,
    /// Rows that the mapping would make for it; nothing for the tables copied from.
    pub mapped: Option<i64>,
}

/// One column of a table that is filled.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnPlan {
    /// Its table.
    pub table: String,
    /// Its name.
    pub column: String,
    /// Its declared type.
    pub declared: String,
    /// Whether it must have a value.
    pub not_null: bool,
    /// The storage classes that the mapping gives it in the present data.
    pub mapped: String,
}

/// Looks at both sides.
pub fn run(extraction: &Extraction) -> Result<Plan, MigrateError> {
    let flow = extraction.settled_flow()?;
    let pair = Pair::read_only(&extraction.files)?;
    let mut plan = Plan {
        context: extraction.context().to_owned(),
        from: flow.from.side(),
        to: flow.to.side(),
        mapping_hash: extraction.manifest.hash(),
        tables: Vec::new(),
        columns: Vec::new(),
        problems: pair.misfits(&extraction.manifest)?,
        notes: Vec::new(),
        keys: 0,
        seconds: 0,
    };
    checks::roles(extraction, &pair, flow, &mut plan)?;
    checks::schema(extraction, &pair, flow, &mut plan)?;
    // Without its tables and columns, the data cannot even be asked.
    if pair.misfits(&extraction.manifest)?.is_empty() {
        tables(extraction, &pair, flow, &mut plan)?;
        checks::stored_types(extraction, &pair, flow.from, &mut plan)?;
        checks::keys(extraction, &pair, flow.from, &mut plan)?;
        for map in extraction.manifest.maps(flow) {
            let found = checks::mapped_rows(&pair, flow.to, map, &mut plan);
            if let Err(error) = found {
                let reason = platform::error::chain(&error);
                plan.problems
                    .push(format!("{}: its select fails on the data: {reason}", describe(flow.to, map)));
            }
        }
    }
    Ok(plan)
}

fn tables(extraction: &Extraction, pair: &Pair, flow: Flow, plan: &mut Plan) -> Result<(), MigrateError> {
    for end in [flow.from, flow.to] {
        for table in &extraction.manifest.tables(end).tables {
            let rows = pair.count(end, table)?;
            plan.tables.push(TablePlan { side: end.side(), table: table.clone(), rows, mapped: None });
        }
    }
    plan.keys = pair.count(flow.from, &extraction.manifest.tables(flow.from).root)?;
    plan.seconds = plan.keys / KEYS_PER_SECOND + 1;
    Ok(())
}

impl Plan {
    fn set_mapped(&mut self, end: End, table: &str, rows: i64) {
        let side = end.side();
        let found = self.tables.iter_mut().find(|plan| plan.side == side && plan.table == table);
        if let Some(found) = found {
            found.mapped = Some(rows);
        }
    }
}
