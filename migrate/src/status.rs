//! `migrate status`: where a context stands. Ends what a switch that died left behind, since whoever asks wants to
//! see the context at rest.
//!
//! Invariant: a database that cannot be read is said to be so and hides nothing of what the control store knows.

use control::{Flag, Instance, Side, Stage, Verification, Who, now_ms};
use serde::Serialize;

use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::flow::End;
use crate::sqlite::{Backlog, ContextState, Pair, Progress};
use crate::switch;

/// Where a context stands.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The stage of its extraction.
    pub stage: Stage,
    /// Its flag; `hold` is the switch in progress.
    pub flag: Flag,
    /// Both sides.
    pub sides: Vec<SideStatus>,
    /// The backfill under way, or the last one that finished, in whichever direction.
    pub backfill: Option<BackfillStatus>,
    /// The last comparison since dual-write was turned on.
    pub verification: Option<Verification>,
    /// The processes that serve the flag.
    pub instances: Vec<Instance>,
    /// What was left behind and has been ended now.
    pub settled: Vec<String>,
}

/// One side.
#[derive(Debug, Clone, Serialize)]
pub struct SideStatus {
    /// Which.
    pub side: Side,
    /// Its row of the context.
    pub state: Option<ContextState>,
    /// Why it cannot be read.
    pub unreadable: Option<String>,
    /// Images that wait for the other side.
    pub pending: i64,
    /// Age of the oldest, in milliseconds.
    pub oldest_ms: i64,
}

/// A backfill.
#[derive(Debug, Clone, Serialize)]
pub struct BackfillStatus {
    /// The side that is filled.
    pub fills: Side,
    /// Whether one into the side that follows now is recorded since dual-write was turned on. Directly after a switch
    /// there is none, and none is needed: the new owner was filled by it, the old one had it all.
    pub into_follower: bool,
    /// How far it has come.
    pub progress: Progress,
    /// Keys that could not be stored.
    pub refused: u64,
}

/// Looks at everything there is to see of a context.
pub fn run(extraction: &Extraction) -> Result<Status, MigrateError> {
    let settled = settle(extraction)?;
    let flag = extraction.flag()?;
    let context = extraction.context();
    let pair = Pair::read_only(&extraction.files);
    let sides = [End::Source, End::Target].map(|end| side(&pair, end, context)).to_vec();
    let follower = End::from(flag.writes).other();
    let backfill = match &pair {
        Ok(pair) => backfill(pair, follower, context)?,
        Err(_) => None,
    };
    Ok(Status {
        stage: flag.stage(),
        sides,
        backfill,
        verification: extraction.store.verification(context)?,
        instances: extraction.store.instances()?,
        settled,
        flag,
    })
}

/// A switch within its time is left alone; one that was left behind is ended. Where that cannot be done now (a
/// database is away), the status is shown all the same.
pub(crate) fn settle(extraction: &Extraction) -> Result<Vec<String>, MigrateError> {
    let hold = extraction.flag()?.hold;
    if hold.is_some_and(|hold| now_ms() < hold.deadline_ms) {
        return Ok(Vec::new());
    }
    let who = Who::new("migrate status", "a switch was left behind");
    let settled = switch::settle(extraction, &who);
    Ok(settled.map(|settled| settled.deeds).unwrap_or_default())
}

fn side(pair: &Result<Pair, MigrateError>, end: End, context: &str) -> SideStatus {
    let read = |pair: &Pair| -> Result<(ContextState, Backlog), MigrateError> {
        Ok((pair.known_context(end, context)?, pair.backlog(end, context)?))
    };
    let found = pair
        .as_ref()
        .map_err(|error| platform::error::chain(error))
        .and_then(|pair| read(pair).map_err(|error| platform::error::chain(&error)));
    match found {
        Ok((state, Backlog { pending, oldest_at_ms })) => SideStatus {
            side: end.side(),
            state: Some(state),
            unreadable: None,
            pending,
            oldest_ms: oldest_at_ms.map_or(0, |at| (now_ms() - at).max(0)),
        },
        Err(reason) => {
            SideStatus { side: end.side(), state: None, unreadable: Some(reason), pending: 0, oldest_ms: 0 }
        }
    }
}

fn backfill(pair: &Pair, follower: End, context: &str) -> Result<Option<BackfillStatus>, MigrateError> {
    let recorded = |end: End| Ok::<_, MigrateError>(pair.progress(end, context)?.map(|found| (end, found)));
    let (ours, other) = (recorded(follower)?, recorded(follower.other())?);
    let into_follower = ours.is_some();
    let under_way = ours.as_ref().is_some_and(|(_, progress)| !progress.done);
    let last = ours.into_iter().chain(other.filter(|_| !under_way));
    let Some((filled, progress)) = last.max_by_key(|(_, progress)| (progress.done, progress.epoch)) else {
        return Ok(None);
    };
    let refused = u64::try_from(pair.deferred(filled, context)?.len()).unwrap_or_default();
    Ok(Some(BackfillStatus { fills: filled.side(), into_follower, progress, refused }))
}
