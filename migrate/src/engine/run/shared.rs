//! What the threads of a run know of each other.
//!
//! Invariant: the first failure stops all threads and is the one reported; those that follow from it are not.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::state::{RunReport, RunState};
use super::steering::{Pause, Steering};
use super::stop::Stop;
use crate::engine::catch_up::Caught;
use crate::engine::{Phase, Position};
use crate::error::MigrateError;
use crate::meter::rate;

/// What the threads share.
pub(super) struct Shared<'a> {
    stop: &'a Stop,
    began: Instant,
    /// Workers, unless steered otherwise.
    workers: u32,
    known: Mutex<Known>,
}

struct Known {
    phase: Phase,
    steering: Steering,
    brake: Option<String>,
    waits: BTreeMap<String, String>,
    warnings: Vec<String>,
    failure: Option<MigrateError>,
    /// Numbers of the workers at work.
    at_work: Vec<u32>,
    worker_numbers: u32,
    /// Workers found no range left.
    no_range_left: bool,
    /// Nothing is left to do.
    ended: bool,
    /// Everything is copied, and the target is ready for catch-up.
    copied_at: Option<Instant>,
    rows_copied: u64,
    /// The throttle lets the next chunk go from here on.
    next_chunk: Instant,
    batches: u64,
    keys_caught: u64,
    rows_caught: u64,
    last: Option<LastBatch>,
    pruned: u64,
    log: (u64, u64),
}

/// The batch that ended last.
#[derive(Debug, Clone)]
pub(super) struct LastBatch {
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    pub(super) position: Position,
}

impl<'a> Shared<'a> {
    pub(super) fn new(stop: &'a Stop, workers: u32) -> Self {
        let known = Known {
            phase: Phase::Loading,
            steering: Steering::default(),
            brake: None,
            waits: BTreeMap::new(),
            warnings: Vec::new(),
            failure: None,
            at_work: Vec::new(),
            worker_numbers: 0,
            no_range_left: false,
            ended: false,
            copied_at: None,
            rows_copied: 0,
            next_chunk: Instant::now(),
            batches: 0,
            keys_caught: 0,
            rows_caught: 0,
            last: None,
            pruned: 0,
            log: (0, 0),
        };
        Self { stop, began: Instant::now(), workers, known: Mutex::new(known) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stop(&self) -> &'a Stop {
        self.stop
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_stopped()
    }

    /// Nothing is left to do.
    pub(super) fn end(&self) {
        self.known().ended = true;
        self.stop.stop();
    }

    pub(super) fn rest(&self, time: Duration) {
        self.stop.rest(time);
    }

    /// How a thread ended.
    pub(super) fn note_end(&self, ended: Result<(), MigrateError>) {
        if let Err(error) = ended {
            self.known().failure.get_or_insert(error);
            self.stop.stop();
        }
    }

    pub(super) fn waits_for(&self, name: &str, error: &MigrateError, pause: Duration) {
        let text = platform::error::chain(error);
        let before = self.known().waits.insert(name.to_owned(), text.clone());
        if before.as_ref() != Some(&text) {
            let again_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(thread = name, again_ms, "{name} waits: {text}");
        }
    }

    pub(super) fn waits_no_more(&self, name: &str) {
        if self.known().waits.remove(name).is_some() {
            tracing::info!(thread = name, "{name} goes on");
        }
    }

    /// A thread that ends while it waits does not go on.
    pub(super) fn gives_up_waiting(&self, name: &str) {
        self.known().waits.remove(name);
    }

    /// What keeps a worker's chunk: only catch-up can clear the way, and it may run elsewhere.
    pub(super) fn note_blocked(&self, name: &str, by: Option<&str>) {
        let name = format!("a chunk of {name}");
        let Some(by) = by else { return self.waits_no_more(&name) };
        let text = format!("catch-up must come first, as a row is in the way: {by}");
        if self.known().waits.insert(name.clone(), text.clone()).is_none() {
            tracing::warn!(thread = name, "{name} waits: {text}");
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.known().phase
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.known().phase = phase;
    }

    pub(super) fn steer(&self, steering: Steering, brake: Option<String>) {
        let mut known = self.known();
        (known.steering, known.brake) = (steering, brake);
    }

    pub(super) fn is_braked(&self) -> bool {
        self.known().brake.is_some()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.known().steering.pause == Pause::All
    }

    pub(super) fn workers(&self) -> u32 {
        self.known().steering.workers.unwrap_or(self.workers)
    }

    /// A new worker's number.
    pub(super) fn next_worker(&self) -> u32 {
        let mut known = self.known();
        known.worker_numbers += 1;
        let number = known.worker_numbers;
        known.at_work.push(number);
        number
    }

    /// Whether there are too many workers; then this one no longer counts.
    pub(super) fn leave_if_surplus(&self, number: u32) -> bool {
        let mut known = self.known();
        let wanted = usize::try_from(known.steering.workers.unwrap_or(self.workers)).unwrap_or(usize::MAX);
        let surplus = known.at_work.len() > wanted;
        if surplus {
            known.at_work.retain(|other| *other != number);
        }
        surplus
    }

    pub(super) fn leave(&self, number: u32) {
        self.known().at_work.retain(|other| *other != number);
    }

    /// Counts a chunk; returns how long to rest for the throttle, which all workers share.
    pub(super) fn copied(&self, rows: u64) -> Duration {
        let mut known = self.known();
        known.rows_copied += rows;
        let Some(limit) = known.steering.rows_per_second else { return Duration::ZERO };
        let share = Duration::from_micros(rows.saturating_mul(1_000_000) / limit.max(1));
        known.next_chunk = known.next_chunk.max(Instant::now()) + share;
        known.next_chunk.saturating_duration_since(Instant::now())
    }

    /// A worker found nothing left; housekeeping does what comes behind it.
    pub(super) fn set_copied(&self) {
        self.known().no_range_left = true;
    }

    /// Ranges are to be copied anew.
    pub(super) fn set_ranges_left(&self) {
        self.known().no_range_left = false;
    }

    pub(super) fn is_copied(&self) -> bool {
        let known = self.known();
        known.no_range_left || known.copied_at.is_some()
    }

    pub(super) fn copied_at(&self) -> Option<Instant> {
        self.known().copied_at
    }

    pub(super) fn set_copied_at(&self, at: Instant) {
        self.known().copied_at = Some(at);
    }

    pub(super) fn caught(&self, begun: Instant, caught: Caught) {
        let mut known = self.known();
        known.batches += 1;
        known.keys_caught += caught.keys;
        known.rows_caught += caught.rows;
        known.last = Some(LastBatch { begun, ended: Instant::now(), position: caught.position });
    }

    pub(super) fn last_batch(&self) -> Option<LastBatch> {
        self.known().last.clone()
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn note_log(&self, pruned: u64, log: (u64, u64)) {
        let mut known = self.known();
        known.pruned += pruned;
        known.log = log;
    }

    pub(super) fn warn(&self, warnings: Vec<String>) {
        self.known().warnings = warnings;
    }

    pub(super) fn state(&self) -> RunState {
        let known = self.known();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        RunState {
            host: std::env::var("HOSTNAME")
                .or_else(|_| std::fs::read_to_string("/proc/sys/kernel/hostname"))
                .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned()),
            process: std::process::id(),
            at_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            phase: known.phase,
            workers: known.steering.workers.unwrap_or(self.workers),
            rows_copied: known.rows_copied,
            rows_per_second: rate(known.rows_copied, self.began.elapsed()),
            copied: known.copied_at.is_some(),
            keys_caught: known.keys_caught,
            lag_ms: known.last.as_ref().map(|last| millis(last.begun.elapsed())),
            log_rows: known.log.0,
            log_bytes: known.log.1,
            waits: known.waits.iter().map(|(name, reason)| format!("{name}: {reason}")).collect(),
            brake: known.brake.clone(),
            warnings: known.warnings.clone(),
        }
    }

    pub(super) fn outcome(&self, began: Instant) -> Result<RunReport, MigrateError> {
        let mut known = self.known();
        if let Some(failure) = known.failure.take() {
            return Err(failure);
        }
        Ok(RunReport {
            rows_copied: known.rows_copied,
            copied: known.copied_at.is_some(),
            ended: known.ended,
            batches: known.batches,
            keys_caught: known.keys_caught,
            rows_caught: known.rows_caught,
            pruned: known.pruned,
            position: known.last.as_ref().map(|last| last.position.clone()),
            lag_ms: known.last.as_ref().map(|last| millis(last.begun.elapsed())),
            duration_ms: millis(began.elapsed()),
        })
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
