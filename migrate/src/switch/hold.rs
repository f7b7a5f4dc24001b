//! The steps of a switch while writes are held: from the first acknowledgement to the flip.
//!
//! Invariant: every step checks that enough of the hold is left; none may outlive the deadline after which facades
//! let go by themselves.

use std::thread;
use std::time::Duration;

use control::{Hold, Who, now_ms};

use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::flow::Flow;
use crate::sqlite::Pair;
use crate::switch::SwitchReport;
use crate::switch::crossing::Crossing;

/// Pause between two looks at something awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// What the flip itself may take, in milliseconds.
const FLIP_MS: i64 = 25;

/// A switch under way, before its flip.
pub(super) struct UnderHold<'a> {
    extraction: &'a Extraction,
    flow: Flow,
    hold: Hold,
    old_owner: Pair,
    new_owner: Pair,
}

impl<'a> UnderHold<'a> {
    pub(super) fn new(extraction: &'a Extraction, flow: Flow, hold: Hold) -> Result<Self, MigrateError> {
        extraction.points.pass("switch_held")?;
        let old_owner = Pair::writing(&extraction.files, flow.from)?;
        let new_owner = Pair::writing(&extraction.files, flow.to)?;
        Ok(Self { extraction, flow, hold, old_owner, new_owner })
    }

    /// Everything up to and including the flip.
    pub(super) fn carry_out(
        &self,
        crossing: &mut dyn Crossing,
        report: &mut SwitchReport,
        who: &Who,
    ) -> Result<(), MigrateError> {
        let points = &self.extraction.points;
        self.await_that("all processes hold the writes", || self.all_hold())?;
        points.pass("switch_acknowledged")?;
        self.close_fence()?;
        report.drained = crossing.waiting()?;
        points.pass("switch_fenced")?;
        report.drained += crossing.drain(self)?;
        self.left("the rest is across")?;
        points.pass("switch_drained")?;
        report.dirty_keys = crossing.compare_changed()?;
        points.pass("switch_compared")?;
        self.prepare_new_owner(crossing, report)?;
        points.pass("switch_prepared")?;
        self.left("the flip")?;
        self.extraction.store.flip(self.context(), self.hold.token, who)?;
        Ok(())
    }

    fn context(&self) -> &str {
        self.extraction.context()
    }

    /// How much of the hold is left, or an error that names the step it did not suffice for.
    pub(super) fn left(&self, step: &str) -> Result<Duration, MigrateError> {
        let left = self.hold.deadline_ms - FLIP_MS - now_ms();
        match u64::try_from(left) {
            Ok(left) if left > 0 => Ok(Duration::from_millis(left)),
            _ => {
                let limit = self.hold.deadline_ms - self.hold.began_ms;
                Err(MigrateError::failed(format!(
                    "writes may be held for {limit} ms, which did not suffice until {step}"
                )))
            }
        }
    }

    pub(super) fn await_that(
        &self,
        what: &str,
        done: impl Fn() -> Result<bool, MigrateError>,
    ) -> Result<(), MigrateError> {
        while !done()? {
            self.left(what)?;
            thread::sleep(LOOK_AGAIN);
        }
        self.left(what).map(drop)
    }

    /// Whether every living process that serves the context's flag, facades and both sides alike, holds its writes
    /// with none in flight. One that died counts until its lease is over.
    fn all_hold(&self) -> Result<bool, MigrateError> {
        let instances = self.extraction.store.instances()?;
        let living = instances.iter().filter(|instance| instance.live);
        let mut acks = living.flat_map(|instance| &instance.acks).filter(|ack| ack.context == self.context());
        Ok(acks.all(|ack| ack.held && ack.token == self.hold.token))
    }

    /// From the commit on, no client write can happen at the old owner: each one reads the fence in its own
    /// transaction, and SQLite has one writer at a time.
    fn close_fence(&self) -> Result<(), MigrateError> {
        self.old_owner.wait_for_locks(self.left("the old owner's fence is closed")?)?;
        self.old_owner.write(|pair| {
            let state = pair.known_context(self.flow.from, self.context())?;
            if state.closed || state.fence_token >= self.hold.token {
                return Err(MigrateError::failed(format!(
                    "the fence of the {} was moved by a later switch",
                    self.flow.from.side()
                )));
            }
            pair.move_fence(self.flow.from, self.context(), state.fence_token, self.hold.token, "closed")
                .map(drop)
        })
    }

    /// Its fence is still closed, so nothing of this shows before the flip, and repeating it is harmless.
    fn prepare_new_owner(
        &self,
        crossing: &mut dyn Crossing,
        report: &mut SwitchReport,
    ) -> Result<(), MigrateError> {
        self.new_owner.wait_for_locks(self.left("the new owner is prepared")?)?;
        crossing.start_way_back()?;
        let (manifest, end) = (&self.extraction.manifest, self.flow.to);
        let root = manifest.tables(end);
        let kind = self.new_owner.key_kind(end, &root.root, &root.key)?;
        let sequences = self.new_owner.write(|pair| {
            if !pair.known_context(end, self.context())?.closed {
                return Err(MigrateError::failed(format!("the {} opened its fence too early", end.side())));
            }
            crossing.prepare(pair)?;
            pair.move_sequences(manifest, end, kind)
        })?;
        report.sequences = Some(sequences);
        Ok(())
    }
}
