//! The runner: backfill workers, catch-up and housekeeping as threads of one process, until told to stop.
//!
//! Whatever is unreachable is waited for and opened anew; whatever else fails ends the run, since trying again would not
//! help. A run that ends leaves nothing half done: each thread ends after the transaction under way.
//!
//! Invariant: a thread holds nothing that another process could not take over: leases run out, claims are superseded.

mod housekeeping;
mod retry;
mod shared;
mod start;
mod state;
mod steering;
mod stop;

use std::time::{Duration, Instant};

use super::backfill::{Copier, CopierOptions, Step};
use super::catch_up::Follower;
use super::driver::{Driver, Phase, Target as _};
use super::mapping::Stream;
use crate::error::MigrateError;
use crate::fail_point::FailPoints;
use housekeeping::Housekeeper;
use retry::{Next, keep_on};
use shared::Shared;

pub(crate) use retry::pause;
pub use start::{Adopt, begin, forget};
pub(crate) use start::{needs_capture, needs_empty, needs_same_beginning, needs_same_mapping};
pub use state::{RunReport, RunState};
pub use steering::{Pause, Steering};
pub use stop::Stop;

/// How long a worker waits for ranges that others have.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Pause of catch-up behind a batch that found something, and behind one that found nothing.
const BATCH_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(150));
/// How often threads are counted against the number wanted.
const SUPERVISE: Duration = Duration::from_millis(50);

/// Which part of the work this process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Backfill and catch-up.
    Both,
    /// Backfill alone; it ends when everything is copied.
    Backfill,
    /// Catch-up alone.
    CatchUp,
}

/// When a run ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never.
    Stopped,
    /// When the backfill is done and catch-up is close behind the source.
    CaughtUp,
}

/// How to run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Which part of the work.
    pub parts: Parts,
    /// When it ends.
    pub until: Until,
    /// What a target that is not empty means.
    pub adopt: Adopt,
    /// Workers of the backfill, unless steered otherwise.
    pub workers: u32,
    /// Most keys per transaction of catch-up.
    pub piece: u32,
    /// Chunks.
    pub copier: CopierOptions,
    /// Log rows above which a warning is given.
    pub warn_log_rows: u64,
    /// How long catch-up may stand still before a warning is given.
    pub warn_lag: Duration,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            parts: Parts::Both,
            until: Until::Stopped,
            adopt: Adopt::Nothing,
            workers: 2,
            piece: 50_000,
            copier: CopierOptions { chunk: 100_000, lease_seconds: 60 },
            warn_log_rows: 5_000_000,
            warn_lag: Duration::from_secs(30),
        }
    }
}

/// Runs until it is stopped or has nothing left to do. `watch` sees the state now and then.
pub fn run<D: Driver>(
    driver: &D,
    stream: &Stream,
    options: &RunOptions,
    stop: &Stop,
    points: &FailPoints,
    watch: &mut dyn FnMut(&RunState),
) -> Result<RunReport, MigrateError> {
    let shared = Shared::new(stop, options.workers);
    let runner = Runner { driver, stream, options, shared: &shared, points };
    let began = Instant::now();
    runner.start()?;
    runner.threads(watch);
    let outcome = shared.outcome(began);
    // What the run said of itself is no longer so. If the target is away, the note's age tells.
    if let Ok(mut target) = driver.target() {
        let _ = target.set_note(&stream.name, housekeeping::note_name(options.parts), None);
    }
    outcome
}

struct Runner<'a, D: Driver> {
    driver: &'a D,
    stream: &'a Stream,
    options: &'a RunOptions,
    shared: &'a Shared<'a>,
    points: &'a FailPoints,
}

impl<D: Driver> Runner<'_, D> {
    /// Nothing is copied yet, so only what is away now is waited for.
    fn start(&self) -> Result<(), MigrateError> {
        let open = || Ok(());
        keep_on(self.shared, "start", open, |()| {
            let row = begin(self.driver, self.stream, self.options.adopt, self.points)?;
            self.shared.set_phase(row.phase);
            // What was paused before it began copies nothing.
            let steering = Steering::read(&mut self.driver.target()?, &self.stream.name)?;
            let paused = steering.paused();
            self.shared.steer(steering, paused);
            Ok(Next::End)
        })
    }

    fn threads(&self, watch: &mut dyn FnMut(&RunState)) {
        std::thread::scope(|scope| {
            let mut workers = Vec::new();
            scope.spawn(|| self.shared.note_end(self.keep_house()));
            if self.options.parts != Parts::Backfill {
                scope.spawn(|| self.shared.note_end(self.follow()));
            }
            while !self.shared.is_stopped() {
                workers.retain(|worker: &std::thread::ScopedJoinHandle<'_, ()>| !worker.is_finished());
                let wanted = self.shared.workers();
                while self.options.parts != Parts::CatchUp
                    && !self.shared.is_copied()
                    && workers.len() < usize::try_from(wanted).unwrap_or(usize::MAX)
                {
                    let number = self.shared.next_worker();
                    workers.push(scope.spawn(move || self.shared.note_end(self.copy(number))));
                }
                watch(&self.shared.state());
                self.shared.rest(SUPERVISE);
            }
        });
    }

    /// One backfill worker. A surplus one ends at its next look, so that the number can be lowered.
    fn copy(&self, number: u32) -> Result<(), MigrateError> {
        let name = format!("worker {number}");
        let open = || Copier::open(self.driver, self.stream, self.options.copier, self.points);
        let ended = keep_on(self.shared, &name, open, |copier| {
            if self.shared.leave_if_surplus(number) {
                return Ok(Next::End);
            }
            if self.shared.is_braked() {
                return Ok(Next::Rest(LOOK_AGAIN));
            }
            let step = copier.step()?;
            self.shared.note_blocked(&name, copier.blocked_by());
            Ok(match step {
                Step::Copied(rows) => Next::Rest(self.shared.copied(rows)),
                Step::Again | Step::Waiting => Next::Rest(LOOK_AGAIN),
                Step::Done => {
                    self.shared.set_copied();
                    Next::End
                }
            })
        });
        self.shared.leave(number);
        ended
    }

    /// Catch-up. A stream that was taken over meanwhile is not taken back: the two would take turns for ever. One that was let
    /// rest is followed again as soon as it is woken.
    fn follow(&self) -> Result<(), MigrateError> {
        let mut mine = None;
        let open = || Ok(None);
        keep_on(self.shared, "catch-up", open, |session: &mut Option<Follower<'_, D>>| {
            if self.shared.phase() == Phase::Loading || self.shared.is_paused() {
                return Ok(Next::Rest(LOOK_AGAIN));
            }
            if self.shared.phase() != Phase::Resting {
                match self.follow_once(session, &mut mine) {
                    Err(MigrateError::Refused { .. }) if self.is_at_rest()? => {}
                    pause => return pause.map(Next::Rest),
                }
            }
            (*session, mine) = (None, None);
            Ok(Next::Rest(LOOK_AGAIN))
        })
    }

    /// One batch; returns how long to rest behind it.
    fn follow_once<'r>(
        &'r self,
        session: &mut Option<Follower<'r, D>>,
        mine: &mut Option<i64>,
    ) -> Result<Duration, MigrateError> {
        let follower = match session {
            Some(follower) => follower,
            None => {
                let claimed = self.claim(*mine)?;
                *mine = Some(claimed.token());
                session.insert(claimed)
            }
        };
        let begun = Instant::now();
        let caught = follower.batch()?;
        let pause = if caught.keys > 0 { BATCH_PAUSE.0 } else { BATCH_PAUSE.1 };
        if caught.whole {
            self.shared.caught(begun, caught);
        }
        Ok(pause)
    }

    /// Whether the stream rests, or did and nobody has claimed it since.
    fn is_at_rest(&self) -> Result<bool, MigrateError> {
        let row = self.driver.target()?.stream(&self.stream.name)?;
        Ok(row.is_some_and(|row| matches!(row.phase, Phase::Resting | Phase::Waking)))
    }

    fn claim(&self, mine: Option<i64>) -> Result<Follower<'_, D>, MigrateError> {
        if let Some(mine) = mine {
            let row = self.driver.target()?.stream(&self.stream.name)?;
            if row.is_none_or(|row| row.token != mine) {
                return Err(super::catch_up::superseded(self.stream));
            }
        }
        let follower = Follower::claim(self.driver, self.stream, self.options.piece, self.points)?;
        Ok(follower.heeding(self.shared.stop()))
    }

    fn keep_house(&self) -> Result<(), MigrateError> {
        let mut keeper = Housekeeper::new(self.stream, self.options, self.shared, self.points);
        let open = || Ok((self.driver.source()?, self.driver.target()?));
        keep_on(self.shared, "housekeeping", open, |(source, target): &mut (D::Source, D::Target)| {
            keeper.round::<D>(source, target)
        })
    }
}
