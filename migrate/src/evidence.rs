//! What the control store is told of a comparison under change capture.
//!
//! Invariant: only a full comparison that came to its end is told, since the gates go by it.

use control::{ControlStore, DataMode, Verification, now_ms};

use crate::engine::verify::Report;
use crate::error::MigrateError;

/// Records the comparison.
pub(crate) fn record(store: &ControlStore, context: &str, report: &Report) -> Result<(), MigrateError> {
    store.declare(context, DataMode::Replicated)?;
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    store.record_verification(&Verification {
        context: context.to_owned(),
        clean: report.is_clean(),
        rows: count(report.rows()),
        differences: count(report.wrong() + report.moving()),
        // Positions of capture are texts; the evidence holds it.
        position: 0,
        mapping_hash: report.mapping_hash.clone(),
        evidence: report.evidence(),
        at_ms: now_ms(),
    })?;
    Ok(())
}
