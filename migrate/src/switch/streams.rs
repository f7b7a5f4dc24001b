//! Which streams of a context under change capture rest: those into the side that owns the data.
//!
//! Invariant: a stream is woken only from the token under which it was seen to rest *before* the flag was read, so one that a
//! switch lets rest meanwhile goes on resting.

use crate::engine::{Driver as _, Phase, Target as _};
use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::flow::{End, Flow};

/// A stream that rests.
pub(super) struct AtRest {
    flow: Flow,
    token: i64,
}

/// Those that rest now; none of a context under dual-write.
pub(super) fn at_rest(extraction: &Extraction) -> Result<Vec<AtRest>, MigrateError> {
    if !extraction.flag()?.captured {
        return Ok(Vec::new());
    }
    let mut resting = Vec::new();
    for from in [End::Source, End::Target] {
        let flow = Flow::from_owner(from);
        // Without a mapping there is no stream in that direction.
        let Ok((stream, driver)) = extraction.stream(flow) else { continue };
        let row = driver.target()?.stream(&stream.name)?;
        resting.extend(
            row.filter(|row| row.phase == Phase::Resting).map(|row| AtRest { flow, token: row.token }),
        );
    }
    Ok(resting)
}

/// Wakes the one that `owner` fills. Returns whether it did.
pub(super) fn wake(extraction: &Extraction, owner: End, resting: &[AtRest]) -> Result<bool, MigrateError> {
    let Some(found) = resting.iter().find(|resting| resting.flow.from == owner) else { return Ok(false) };
    let (stream, driver) = extraction.stream(found.flow)?;
    driver.target()?.wake(&stream.name, found.token)
}
