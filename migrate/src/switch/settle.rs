//! Ending what a switch that died left behind: forward after the flip, back before it.
//!
//! Invariant: fences are read *before* the flag. A fence seen closed under token t while the flag, read later, knows
//! no switch, belongs to a switch that has ended; and it is moved only if it is still under t. So a switch that begins
//! meanwhile is never disturbed.

use std::thread;
use std::time::{Duration, Instant};

use control::{Flag, Hold, Who, now_ms};

use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::flow::End;
use crate::sqlite::Pair;
use crate::switch::streams;

/// How long the way forward is tried before it is left to the next command.
const FORWARD: Duration = Duration::from_secs(30);
/// Pause between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// The context at rest.
pub struct Settled {
    /// Its flag, with no switch in progress.
    pub flag: Flag,
    /// What had to be done for that.
    pub deeds: Vec<String>,
}

/// Ends a switch that was left behind and brings the fences in line with the flag. A switch that is still within its
/// time is waited for: it may be alive.
pub fn settle(extraction: &Extraction, who: &Who) -> Result<Settled, MigrateError> {
    let mut deeds = Vec::new();
    if let Some(hold) = extraction.flag()?.hold {
        wait_for_end(extraction, hold)?;
        let flag = extraction.flag()?;
        match flag.hold {
            Some(now) if now.flipped => {
                finish_forward(extraction, now, who)?;
                deeds.push(format!("finished the switch to {} that was left behind after its flip", now.to));
            }
            Some(now) => {
                extraction.store.settle(extraction.context())?;
                deeds.push(format!("ended the switch to {} that was left behind before its flip", now.to));
            }
            None => {}
        }
    }
    deeds.extend(mend(extraction)?);
    let flag = extraction.flag()?;
    if flag.hold.is_some() {
        return Err(MigrateError::refused(
            format!("another switch of {} has just begun", flag.context),
            format!("wait until it has ended; `migrate status {}` shows it", flag.context),
        ));
    }
    Ok(Settled { flag, deeds })
}

/// Waits until the switch is no longer in progress, or its deadline has passed.
fn wait_for_end(extraction: &Extraction, hold: Hold) -> Result<(), MigrateError> {
    while now_ms() <= hold.deadline_ms {
        if extraction.flag()?.hold.is_none_or(|now| now.token != hold.token) {
            return Ok(());
        }
        thread::sleep(TRY_AGAIN);
    }
    Ok(())
}

/// Brings both databases in line with a flag that knows no switch: the owner's fence open and its dual-write as the
/// flag says, the other one's fence closed and its dual-write off; under change capture, what follows the owner is awake.
pub(crate) fn mend(extraction: &Extraction) -> Result<Vec<String>, MigrateError> {
    let context = extraction.context();
    let pair = Pair::read_only(&extraction.files)?;
    let ends = [End::Source, End::Target];
    let seen = ends.map(|end| pair.context_state(end, context));
    let resting = streams::at_rest(extraction)?;
    let flag = extraction.flag()?;
    let mut deeds = Vec::new();
    if flag.hold.is_some() {
        return Ok(deeds);
    }
    for (end, state) in ends.into_iter().zip(seen) {
        let Some(state) = state? else { continue };
        let owns = end == End::from(flag.writes);
        let dual_write = owns && flag.dual_write;
        // A fence that was moved under a later token is in line with a later flag.
        let fence_is_off = state.closed == owns && state.fence_token <= flag.token;
        if !fence_is_off && state.dual_write == dual_write {
            continue;
        }
        let moved = Pair::writing(&extraction.files, end)?.write(|pair| {
            if pair.known_context(end, context)?.fence_token != state.fence_token {
                return Ok(false);
            }
            pair.set_dual_write(end, context, dual_write)?;
            let fence = if owns { "open" } else { "closed" };
            let moved =
                fence_is_off && pair.move_fence(end, context, state.fence_token, flag.token, fence)?;
            Ok(moved)
        })?;
        if moved {
            deeds.push(format!("{} the fence of the {}", if owns { "opened" } else { "closed" }, end.side()));
        }
    }
    if streams::wake(extraction, End::from(flag.writes), &resting)? {
        deeds.push(format!("what follows the {} goes on", flag.writes));
    }
    Ok(deeds)
}

/// After the flip: opens the new owner's fence, lets the way back begin, and lets facades release the writes.
/// Repeating it is harmless.
pub(super) fn finish_forward(extraction: &Extraction, hold: Hold, who: &Who) -> Result<Flag, MigrateError> {
    let context = extraction.context();
    let (new, old) = (End::from(hold.to), End::from(hold.to).other());
    retrying(FORWARD, || open_new_owner(extraction, new, hold))?;
    extraction.points.pass("switch_opened")?;
    retrying(FORWARD, || retire_old_owner(extraction, old, hold))?;
    extraction.points.pass("switch_retired")?;
    retrying(FORWARD, || Ok(extraction.store.finish_switch(context, hold.token, who)?))
}

fn open_new_owner(extraction: &Extraction, end: End, hold: Hold) -> Result<(), MigrateError> {
    let context = extraction.context();
    let pair = Pair::writing(&extraction.files, end)?;
    let seen = pair.known_context(end, context)?;
    let flag = extraction.flag()?;
    let ours = flag.hold.is_none_or(|now| now.token == hold.token) && flag.writes == hold.to;
    // The new owner opens its own fence when it meets the new flag first.
    if !ours || !seen.closed || seen.fence_token > flag.token {
        return Ok(());
    }
    pair.write(|pair| pair.move_fence(end, context, seen.fence_token, flag.token, "open").map(drop))
}

fn retire_old_owner(extraction: &Extraction, end: End, hold: Hold) -> Result<(), MigrateError> {
    let context = extraction.context();
    let resting = streams::at_rest(extraction)?;
    let flag = extraction.flag()?;
    if flag.captured {
        let ours = flag.hold.is_none_or(|now| now.token == hold.token) && flag.writes == hold.to;
        return if ours { streams::wake(extraction, end.other(), &resting).map(drop) } else { Ok(()) };
    }
    Pair::writing(&extraction.files, end)?.write(|pair| {
        let state = pair.known_context(end, context)?;
        if state.closed && state.fence_token == hold.token {
            pair.set_dual_write(end, context, false)?;
        }
        Ok(())
    })
}

/// Tries again until it succeeds or `patience` ends; a crash that a test asked for is not tried again.
pub(super) fn retrying<T>(
    patience: Duration,
    work: impl Fn() -> Result<T, MigrateError>,
) -> Result<T, MigrateError> {
    let until = Instant::now() + patience;
    loop {
        match work() {
            Err(MigrateError::Crashed(point)) => return Err(MigrateError::Crashed(point)),
            Err(_) if Instant::now() < until => thread::sleep(TRY_AGAIN),
            done => return done,
        }
    }
}
