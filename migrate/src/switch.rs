//! `migrate switch`: moves ownership of a context from one side to the other, under traffic.
//!
//! | step | what | fail point behind it | a crash here ends as |
//! |---|---|---|---|
//! | 1 | settle what an earlier switch left behind; gates; health | | nothing changed |
//! | 2 | verify everything, then what changed meanwhile | `switch_verified` | nothing changed |
//! | 3 | begin: facades hold the writes | `switch_held` | abort once the deadline has passed |
//! | 4 | wait until all processes hold and nothing is in flight | `switch_acknowledged` | abort |
//! | 5 | close the old owner's fence | `switch_fenced` | abort, fence reopened |
//! | 6 | wait until the old owner's images are delivered | `switch_drained` | abort, fence reopened |
//! | 7 | verify what changed since step 2 | `switch_compared` | abort, fence reopened |
//! | 8 | new owner: sequences, counter, dual-write on | `switch_prepared` | abort, fence reopened |
//! | 9 | **flip**: the point of no doubt | `switch_flipped` | finished forward |
//! | 10 | open the new owner's fence | `switch_opened` | finished forward |
//! | 11 | old owner: dual-write off | `switch_retired` | finished forward |
//! | 12 | finish: facades release the writes to the new owner | `switch_finished` | done |
//!
//! Invariants: the old owner's fence is closed before the flip and the new owner's opened after it, so at no instant
//! do both accept writes; nothing is flipped that was not compared with the fence closed; before the flip every
//! failure ends with the old owner going on, after it none goes back.

mod health;
mod hold;
mod settle;

use std::time::Duration;

use control::{Hold, Side, Who, now_ms};
use serde::Serialize;

pub use settle::{Settled, settle};

use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::flow::{End, Flow};
use crate::meter::Meter;
use crate::sqlite::{Pair, SequenceMove};
use crate::switch::hold::UnderHold;
use crate::verify::{Comparison, VerifyOptions, record};

/// Keys that may be left to compare while writes are held.
const FEW_KEYS: u64 = 500;
/// Rounds of comparing what changed before writes are held.
const ROUNDS: u32 = 10;

/// What a switch did.
#[derive(Debug, Clone, Serialize)]
pub struct SwitchReport {
    /// Which context.
    pub context: String,
    /// The owner now.
    pub owner: Side,
    /// Whether this command changed it.
    pub switched: bool,
    /// What an earlier command left behind and this one ended.
    pub settled: Vec<String>,
    /// Rows compared before writes were held.
    pub verified_rows: u64,
    /// Keys compared while writes were held.
    pub dirty_keys: u64,
    /// Images that were still to be delivered when the old owner's fence was closed.
    pub drained: i64,
    /// Where the new owner's ids and versions go on.
    pub sequences: Option<SequenceMove>,
    /// Milliseconds for which writes were held.
    pub held_ms: i64,
    /// The flag's fencing token.
    pub token: i64,
}

/// Moves ownership to `to`. Repeating it after any crash ends what was begun.
pub fn run(
    extraction: &Extraction,
    to: Side,
    who: &Who,
    options: VerifyOptions,
    meter: &mut Meter,
) -> Result<SwitchReport, MigrateError> {
    let Settled { flag, deeds } = settle(extraction, who)?;
    let mut report = SwitchReport {
        context: flag.context.clone(),
        owner: flag.writes,
        switched: false,
        settled: deeds,
        verified_rows: 0,
        dirty_keys: 0,
        drained: 0,
        sequences: None,
        held_ms: 0,
        token: flag.token,
    };
    if flag.writes == to {
        return Ok(report);
    }
    let flow = Flow { from: End::from(flag.writes), to: End::from(to) };
    gates(extraction, flow)?;
    let mut comparison = verify(extraction, flow, options, meter)?;
    report.verified_rows = comparison.report.rows;
    extraction.points.pass("switch_verified")?;

    let hold = extraction.store.begin_switch(extraction.context(), to, who)?;
    let under_hold = UnderHold::new(extraction, flow, hold);
    if let Err(error) = under_hold.and_then(|held| held.carry_out(&mut comparison, &mut report, who)) {
        if matches!(error, MigrateError::Crashed(_)) {
            return Err(error);
        }
        if give_up(extraction, flow, hold, who)? {
            return Err(explain_abort(error, extraction));
        }
    }
    extraction.points.pass("switch_flipped")?;
    let flag = settle::finish_forward(extraction, hold, who)?;
    extraction.points.pass("switch_finished")?;
    report.held_ms = now_ms() - hold.began_ms;
    (report.owner, report.switched, report.token) = (flag.writes, true, flag.token);
    Ok(report)
}

/// What must hold before anything is begun; the control store checks its own gates when the switch begins.
fn gates(extraction: &Extraction, flow: Flow) -> Result<(), MigrateError> {
    let context = extraction.context();
    let pair = Pair::read_only(&extraction.files)?;
    if !extraction.flag()?.dual_write || !pair.known_context(flow.from, context)?.dual_write {
        return Err(MigrateError::refused(
            format!("dual-write of {context} is off, so the {} is no copy", flow.to.side()),
            format!("run `migrate dual-write {context} on`, `migrate backfill {context}`"),
        ));
    }
    if !pair.known_context(flow.to, context)?.closed {
        return Err(MigrateError::refused(
            format!("the {} accepts writes of {context} already", flow.to.side()),
            format!(
                "start it with the control store set, so that it closes its fence; see `migrate status {context}`"
            ),
        ));
    }
    health::probe(extraction, flow.to)
}

/// Compares everything while writes go on, then what they changed, until little is left to compare under the hold.
fn verify<'a>(
    extraction: &'a Extraction,
    flow: Flow,
    options: VerifyOptions,
    meter: &mut Meter,
) -> Result<Comparison<'a>, MigrateError> {
    let mut comparison = Comparison::open(extraction, flow, options)?;
    comparison.all(meter)?;
    record(extraction, &comparison.report)?;
    needs_stillness(&comparison)?;
    for _ in 0..ROUNDS {
        needs_equality(&comparison)?;
        if comparison.changed()? <= FEW_KEYS {
            break;
        }
    }
    needs_equality(&comparison)?;
    Ok(comparison)
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

/// Ends the switch before its flip and lets the old owner go on. Returns false if it was flipped after all (the
/// answer to the flip may have been lost), so that there is only the way forward.
fn give_up(extraction: &Extraction, flow: Flow, hold: Hold, who: &Who) -> Result<bool, MigrateError> {
    let patience = Duration::from_secs(5);
    settle::retrying(patience, || {
        Ok(extraction.store.abort_switch(extraction.context(), hold.token, who)?)
    })?;
    if End::from(extraction.flag()?.writes) == flow.to {
        return Ok(false);
    }
    settle::retrying(patience, || settle::mend(extraction).map(drop))?;
    Ok(true)
}

fn explain_abort(error: MigrateError, extraction: &Extraction) -> MigrateError {
    let (owner, context) = (extraction.flag().map(|flag| flag.writes), extraction.context());
    let goes_on =
        owner.map_or_else(|_| "the owner goes on".to_owned(), |owner| format!("the {owner} goes on"));
    MigrateError::Failed {
        message: format!(
            "the switch of {context} was given up and {goes_on}; when the cause is gone, run it again"
        ),
        source: Some(Box::new(extraction.files.locate(error))),
    }
}
