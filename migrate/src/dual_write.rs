//! `migrate dual-write`: tells the owner to send every write to the other side, or to stop.
//!
//! Invariant: dual-write that is turned on begins anew: no backfill progress from before survives, since what was
//! copied then may have changed while nobody was told.

use control::Who;
use serde::Serialize;

use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::sqlite::Pair;

/// What the command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DualWrite {
    /// Which context.
    pub context: String,
    /// Whether it is on now.
    pub on: bool,
    /// Whether this command changed anything.
    pub changed: bool,
    /// The flag's fencing token.
    pub token: i64,
}

/// Turns dual-write on or off. Repeating it changes nothing.
pub fn set(extraction: &Extraction, on: bool, who: &Who) -> Result<DualWrite, MigrateError> {
    let context = extraction.context();
    let flow = extraction.settled_flow()?;
    let owner = Pair::writing(&extraction.files, flow.from)?;
    let state = owner.known_context(flow.from, context)?;
    let follower = owner.known_context(flow.to, context)?;
    let flag = extraction.flag()?;
    if flag.dual_write == on && state.dual_write == on {
        return Ok(DualWrite { context: context.to_owned(), on, changed: false, token: flag.token });
    }
    if on && !follower.closed {
        return Err(MigrateError::refused(
            format!("the {} accepts writes of {context}, so both sides own it", flow.to.side()),
            format!("start the {} once with the control store set; it closes its fence", flow.to.side()),
        ));
    }
    if on {
        let follower = Pair::writing(&extraction.files, flow.to)?;
        follower.write(|pair| pair.void_progress(flow.to, context))?;
    }
    extraction.points.pass("dual_write_recorded")?;
    // The owner's row and the flag cannot change in one commit. A crash between the two leaves the flag changed and
    // the row not; a backfill asks both, and repeating the command ends it.
    let flag = owner.write(|pair| {
        pair.set_dual_write(flow.from, context, on)?;
        Ok(extraction.store.set_dual_write(context, on, who)?)
    })?;
    Ok(DualWrite { context: context.to_owned(), on, changed: true, token: flag.token })
}
