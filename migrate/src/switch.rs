//! `migrate switch`: moves ownership of a context from one side to the other, under traffic.
//!
//! | step | what | fail point behind it | a crash here ends as |
//! |---|---|---|---|
//! | 1 | settle what an earlier switch left behind; gates; health | | nothing changed |
//! | 2 | verify everything, then what changed meanwhile | `switch_verified` | nothing changed |
//! | 3 | begin: facades hold the writes | `switch_held` | abort once the deadline has passed |
//! | 4 | wait until all processes hold and nothing is in flight | `switch_acknowledged` | abort |
//! | 5 | close the old owner's fence | `switch_fenced` | abort, fence reopened |
//! | 6 | what the old owner wrote last gets across | `switch_drained` | abort, fence reopened |
//! | 7 | verify what changed since step 2 | `switch_compared` | abort, fence reopened |
//! | 8 | new owner: sequences, counter, the way back | `switch_prepared` | abort, fence reopened |
//! | 9 | **flip**: the point of no doubt | `switch_flipped` | finished forward |
//! | 10 | open the new owner's fence | `switch_opened` | finished forward |
//! | 11 | the way back begins | `switch_retired` | finished forward |
//! | 12 | finish: facades release the writes to the new owner | `switch_finished` | done |
//!
//! Two things bring writes to the other side, and only they differ (`crossing`): under dual-write, `images` that the owner's
//! relay delivers; under change capture, `catch_up`, which the switch does itself.
//!
//! Invariants: the old owner's fence is closed before the flip and the new owner's opened after it, so at no instant
//! do both accept writes; nothing is flipped that was not compared with the fence closed; before the flip every
//! failure ends with the old owner going on, after it none goes back.

mod catch_up;
mod crossing;
mod health;
mod hold;
mod images;
mod settle;
mod streams;

use std::time::Duration;

use control::{Hold, Side, Who, now_ms};
use serde::Serialize;

pub use settle::{Settled, settle};

use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::flow::{End, Flow};
use crate::meter::Meter;
use crate::sqlite::{Pair, SequenceMove};
use crate::switch::catch_up::CatchUp;
use crate::switch::crossing::Crossing;
use crate::switch::hold::UnderHold;
use crate::switch::images::Images;
use crate::verify::VerifyOptions;

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
    /// Images that were still to be delivered when the old owner's fence was closed; under change capture, changed keys that were
    /// still to be applied.
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
    let mut crossing: Box<dyn Crossing> = match flag.captured {
        true => Box::new(CatchUp::new(extraction, flow, options.patience)?),
        false => Box::new(Images::new(extraction, flow, options)),
    };
    gates(extraction, flow)?;
    crossing.gates()?;
    report.verified_rows = crossing.verify(meter)?;
    extraction.points.pass("switch_verified")?;

    let hold = extraction.store.begin_switch(extraction.context(), to, who)?;
    let under_hold = UnderHold::new(extraction, flow, hold);
    if let Err(error) = under_hold.and_then(|held| held.carry_out(crossing.as_mut(), &mut report, who)) {
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
