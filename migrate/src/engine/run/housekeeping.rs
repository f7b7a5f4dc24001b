//! What a run does beside copying: steering, throttles, pruning, warnings, and the end of loading.
//!
//! Invariant: nothing here writes rows. If it stands still, copying goes on and the log grows; nothing is lost.

use std::time::{Duration, Instant};

use super::retry::Next;
use super::shared::{Shared, millis};
use super::steering::Steering;
use super::{Parts, RunOptions, Until};
use crate::engine::catch_up::forgotten;
use crate::engine::driver::log_rows;
use crate::engine::mapping::Stream;
use crate::engine::prune::prune;
use crate::engine::{Driver, Phase, Source as _, Target as _};
use crate::error::MigrateError;
use crate::fail_point::FailPoints;

/// Pause between two rounds.
const ROUND: Duration = Duration::from_millis(100);
/// How often the log is pruned and measured, and a load is asked for.
const SELDOM: Duration = Duration::from_secs(2);
/// How often the run says of itself where it is.
const SAY: Duration = Duration::from_secs(1);
/// How often a warning is repeated.
const WARN_AGAIN: Duration = Duration::from_secs(60);
/// How often what loading left unchecked is tried, and how often before a run that is to end goes on without it: while a batch
/// is half applied a reference may seem to lead nowhere.
const CHECK: Duration = Duration::from_secs(2);
const CHECKS: u32 = 5;
/// A batch that takes no longer is close behind the source.
const CLOSE: Duration = Duration::from_secs(1);

/// The note in which a run says where it is.
pub(super) fn note_name(parts: Parts) -> &'static str {
    match parts {
        Parts::Both => "run",
        Parts::Backfill => "run.backfill",
        Parts::CatchUp => "run.catch-up",
    }
}

pub(super) struct Housekeeper<'a> {
    stream: &'a Stream,
    options: &'a RunOptions,
    shared: &'a Shared<'a>,
    points: &'a FailPoints,
    load: Option<Result<f64, String>>,
    log: (u64, u64),
    seldom: Option<Instant>,
    said: Option<Instant>,
    warned: Option<Instant>,
    checked: Option<Instant>,
    checks: u32,
    /// What the last check found; none before the first.
    broken: Option<Vec<String>>,
}

impl<'a> Housekeeper<'a> {
    pub(super) fn new(
        stream: &'a Stream,
        options: &'a RunOptions,
        shared: &'a Shared<'a>,
        points: &'a FailPoints,
    ) -> Self {
        Self {
            stream,
            options,
            shared,
            points,
            load: None,
            log: (0, 0),
            seldom: None,
            said: None,
            warned: None,
            checked: None,
            checks: 0,
            broken: None,
        }
    }

    pub(super) fn round<D: Driver>(
        &mut self,
        source: &mut D::Source,
        target: &mut D::Target,
    ) -> Result<Next, MigrateError> {
        let row = target.stream(&self.stream.name)?.ok_or_else(|| forgotten(self.stream))?;
        super::start::needs_same_mapping(self.stream, &row)?;
        self.shared.set_phase(row.phase);
        let steering = Steering::read(target, &self.stream.name)?;
        if due(&mut self.seldom, SELDOM) {
            self.look_at_source::<D>(source, target, &steering)?;
        }
        let brake = self.brake(&steering);
        self.shared.steer(steering, brake);
        self.warn();
        // Before what may fail again and again: it is said what is waited for.
        if due(&mut self.said, SAY) {
            let text = serde_json::to_string(&self.shared.state())
                .map_err(|error| MigrateError::failed(error.to_string()))?;
            target.set_note(&self.stream.name, note_name(self.options.parts), Some(&text))?;
        }
        if self.shared.copied_at().is_none() {
            self.end_backfill(target, row.phase)?;
        }
        self.check_loaded(target)?;
        if self.is_over() {
            // Nobody may come back soon, so the log is left as small as it can be.
            self.look_at_source::<D>(source, target, &Steering::default())?;
            self.shared.end();
            return Ok(Next::End);
        }
        Ok(Next::Rest(ROUND))
    }

    fn look_at_source<D: Driver>(
        &mut self,
        source: &mut D::Source,
        target: &mut D::Target,
        steering: &Steering,
    ) -> Result<(), MigrateError> {
        let pruned = prune::<D>(source, target, self.stream)?;
        self.log = source.log_size(self.stream)?;
        self.shared.note_log(pruned, self.log);
        self.load = match steering.load_query.as_ref().map(|query| source.measure(query)) {
            Some(Err(error @ MigrateError::Unreachable { .. })) => return Err(error),
            Some(Err(error)) => Some(Err(platform::error::chain(&error))),
            measured => measured.and_then(Result::ok).map(Ok),
        };
        Ok(())
    }

    /// Why the backfill must rest, if it must.
    fn brake(&self, steering: &Steering) -> Option<String> {
        if let Some(paused) = steering.paused() {
            return Some(paused);
        }
        match (&self.load, steering.load_limit) {
            (Some(Err(reason)), _) => return Some(format!("the load cannot be measured: {reason}")),
            (Some(Ok(load)), Some(limit)) if *load > limit => {
                return Some(format!("the load is {load}, above {limit}"));
            }
            _ => {}
        }
        let (rows, limit) = (self.log.0, steering.log_rows?);
        (rows > limit)
            .then(|| format!("the log holds {}, above {limit}: catch-up comes first", log_rows(rows)))
    }

    /// When every range is copied: builds what loading left out, and moves sequences. Several processes may do it.
    fn end_backfill<T: crate::engine::Target>(
        &self,
        target: &mut T,
        phase: Phase,
    ) -> Result<(), MigrateError> {
        if !target.chunks_left(self.stream)?.done {
            return Ok(());
        }
        if phase == Phase::Resting {
            // Its sequences are its own by now.
            self.shared.set_copied_at(Instant::now());
            return Ok(());
        }
        if self.options.parts != Parts::CatchUp {
            if phase == Phase::Loading {
                tracing::info!("everything is copied; building what loading left out (indexes, keys)");
                target.finish_loading(self.stream)?;
                self.points.pass("run_loaded")?;
                self.shared.set_phase(Phase::Following);
                if !target.chunks_left(self.stream)?.done {
                    self.shared.set_ranges_left();
                    return Ok(());
                }
            }
            target.move_sequences(self.stream)?;
        } else if phase == Phase::Loading {
            return Ok(());
        }
        self.shared.set_phase(Phase::Following);
        self.shared.set_copied_at(Instant::now());
        Ok(())
    }

    /// Once catch-up has passed everything that was copied.
    fn check_loaded<T: crate::engine::Target>(&mut self, target: &mut T) -> Result<(), MigrateError> {
        let (copied, last) = (self.shared.copied_at(), self.shared.last_batch());
        let is_passed = copied.zip(last).is_some_and(|(copied_at, last)| last.begun > copied_at);
        let follows = self.options.parts != Parts::Backfill && self.shared.phase() == Phase::Following;
        if is_passed && follows && !self.is_whole() && due(&mut self.checked, CHECK) {
            let broken = target.check_loaded(self.stream)?;
            self.checks = self.checks.saturating_add(1);
            if self.checks == CHECKS {
                broken.iter().for_each(|reason| tracing::warn!("{reason}"));
            }
            self.broken = Some(broken);
        }
        Ok(())
    }

    /// Whether all that loading left unchecked was found to hold.
    fn is_whole(&self) -> bool {
        self.broken.as_ref().is_some_and(Vec::is_empty)
    }

    fn is_over(&self) -> bool {
        let Some(copied_at) = self.shared.copied_at() else { return false };
        if self.options.parts == Parts::Backfill {
            return true;
        }
        if self.shared.phase() == Phase::Resting {
            return self.options.until == Until::CaughtUp;
        }
        let close = |last: super::shared::LastBatch| {
            last.begun > copied_at && last.ended.duration_since(last.begun) < CLOSE
        };
        let is_checked = self.checks >= CHECKS || self.is_whole();
        self.options.until == Until::CaughtUp && is_checked && self.shared.last_batch().is_some_and(close)
    }

    fn warn(&mut self) {
        let mut warnings = Vec::new();
        let (rows, bytes) = self.log;
        if rows > self.options.warn_log_rows {
            warnings.push(format!(
                "the log at the source holds {} ({} MiB): catch-up is too slow, or a snapshot holds it back",
                log_rows(rows),
                bytes >> 20
            ));
        }
        let follows = self.options.parts != Parts::Backfill && self.shared.phase() == Phase::Following;
        let since = self.shared.last_batch().map_or_else(|| self.shared.began(), |last| last.begun);
        if follows && since.elapsed() > self.options.warn_lag {
            let (seconds, paused) = (since.elapsed().as_secs(), self.shared.is_paused());
            let why = if paused { "it is paused" } else { "see what it waits for in `migrate status`" };
            warnings.push(format!("catch-up stands still for {seconds} s while the log grows: {why}"));
        }
        if self.checks >= CHECKS {
            warnings.extend(self.broken.iter().flatten().cloned());
        }
        if !warnings.is_empty() && due(&mut self.warned, WARN_AGAIN) {
            let lag_ms = millis(since.elapsed());
            warnings.iter().for_each(|warning| tracing::warn!(lag_ms, log_rows = rows, "{warning}"));
        }
        self.shared.warn(warnings);
    }
}

/// Whether it was long enough ago; then it counts as done now.
fn due(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}
