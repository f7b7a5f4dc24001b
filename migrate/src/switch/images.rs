//! The crossing under dual-write: the old owner's relay delivers images, and versions say what changed.
//!
//! Invariant: without dual-write, on the flag and in the owner's own row, nothing crosses, so nothing is switched.

use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::flow::Flow;
use crate::meter::Meter;
use crate::sqlite::Pair;
use crate::switch::crossing::Crossing;
use crate::switch::hold::UnderHold;
use crate::verify::{Comparison, VerifyOptions, record};

/// Keys that may be left to compare while writes are held.
const FEW_KEYS: u64 = 500;
/// Rounds of comparing what changed before writes are held.
const ROUNDS: u32 = 10;

/// A context under dual-write.
pub(super) struct Images<'a> {
    extraction: &'a Extraction,
    flow: Flow,
    options: VerifyOptions,
    comparison: Option<Comparison<'a>>,
}

impl<'a> Images<'a> {
    pub(super) fn new(extraction: &'a Extraction, flow: Flow, options: VerifyOptions) -> Self {
        Self { extraction, flow, options, comparison: None }
    }

    fn comparison(&mut self) -> Result<&mut Comparison<'a>, MigrateError> {
        self.comparison.as_mut().ok_or_else(|| MigrateError::failed("nothing was compared yet"))
    }
}

impl Crossing for Images<'_> {
    fn gates(&mut self) -> Result<(), MigrateError> {
        let (context, flow) = (self.extraction.context(), self.flow);
        let pair = Pair::read_only(&self.extraction.files)?;
        if self.extraction.flag()?.dual_write && pair.known_context(flow.from, context)?.dual_write {
            return Ok(());
        }
        Err(MigrateError::refused(
            format!("dual-write of {context} is off, so the {} is no copy", flow.to.side()),
            format!(
                "run `migrate dual-write {context} on`, `migrate backfill {context}`; or copy it by change capture: `migrate \
                 capture install {context}`, `migrate run {context}`"
            ),
        ))
    }

    /// Compares everything while writes go on, then what they changed, until little is left to compare under the hold.
    fn verify(&mut self, meter: &mut Meter) -> Result<u64, MigrateError> {
        let mut comparison = Comparison::open(self.extraction, self.flow, self.options)?;
        comparison.all(meter)?;
        record(self.extraction, &comparison.report)?;
        needs_stillness(&comparison)?;
        for _ in 0..ROUNDS {
            needs_equality(&comparison)?;
            if comparison.changed()? <= FEW_KEYS {
                break;
            }
        }
        needs_equality(&comparison)?;
        let rows = comparison.report.rows;
        self.comparison = Some(comparison);
        Ok(rows)
    }

    fn waiting(&mut self) -> Result<i64, MigrateError> {
        let pair = Pair::read_only(&self.extraction.files)?;
        Ok(pair.backlog(self.flow.from, self.extraction.context())?.pending)
    }

    fn drain(&mut self, held: &UnderHold<'_>) -> Result<i64, MigrateError> {
        let pair = Pair::read_only(&self.extraction.files)?;
        let (from, context) = (self.flow.from, self.extraction.context());
        held.await_that("the old owner's images are delivered", || {
            Ok(!pair.anything_pending(from, context)?)
        })?;
        Ok(0)
    }

    fn compare_changed(&mut self) -> Result<u64, MigrateError> {
        let comparison = self.comparison()?;
        let keys = comparison.changed()?;
        let report = &comparison.report;
        if report.differences() > 0 || report.moving > 0 {
            return Err(MigrateError::failed(format!(
                "{} rows that changed lately differ and {} move although nothing may write",
                report.differences(),
                report.moving
            )));
        }
        Ok(keys)
    }

    fn prepare(&mut self, new_owner: &Pair) -> Result<(), MigrateError> {
        new_owner.set_dual_write(self.flow.to, self.extraction.context(), true)
    }
}

/// A key that never stood still while everything was compared is one whose images are not delivered.
fn needs_stillness(comparison: &Comparison<'_>) -> Result<(), MigrateError> {
    let report = &comparison.report;
    if report.moving == 0 {
        return Ok(());
    }
    Err(MigrateError::refused(
        format!(
            "{} changed keys of {} wait to be delivered to the other side",
            report.moving, report.context
        ),
        format!(
            "see with `migrate status {}` whether the other side answers, then run it again",
            report.context
        ),
    ))
}

/// Keys that move are no difference yet: they are compared again under the hold.
fn needs_equality(comparison: &Comparison<'_>) -> Result<(), MigrateError> {
    let report = &comparison.report;
    if report.differences() == 0 {
        return Ok(());
    }
    let context = &report.context;
    Err(MigrateError::failed(format!(
        "the sides differ in {} rows of {context}, so ownership stays; `migrate verify {context}` lists them",
        report.differences()
    )))
}
