//! Named places at which a crash test ends the process, so that every step is known to survive its death there.
//!
//! Set `BANYAN_FAIL_POINT=name`, or `name:3` for the third time it is passed. Always compiled in: the binary that is
//! tested is the one that is shipped, and a point costs one comparison. The names:
//! `dual_write_recorded`, `backfill_chunk_copied` (before the commit), `backfill_chunk` (after it), `backfill_rows`,
//! `switch_verified`, `switch_held`, `switch_acknowledged`, `switch_fenced`, `switch_drained`, `switch_compared`,
//! `switch_prepared`, `switch_flipped`, `switch_opened`, `switch_retired`, `switch_finished`; of the engine:
//! `catch_up_snapshot`, `catch_up_next`, `catch_up_wider`, `catch_up_piece`, `catch_up_blocked`, `catch_up_pos`,
//! `chunk_leased`, `chunk_snapshot`, `chunk_registered`, `chunk_read`, `chunk_done`, `run_created`, `run_loaded`, `repair_applied`.
//!
//! Invariant: at a fail point nothing is cleaned up, as in a real crash.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::MigrateError;

/// What happens at the chosen point.
#[derive(Debug, Clone, Copy)]
enum Effect {
    /// The process ends as by `kill -9`.
    Abort,
    /// The command returns [`MigrateError::Crashed`] without any clean-up.
    Return,
    /// The step fails as if a database had.
    Fail,
}

/// The chosen fail point, if any. The threads of a run share it.
#[derive(Default)]
pub struct FailPoints {
    chosen: Option<(String, Effect)>,
    passes_left: AtomicU32,
    watcher: Option<Mutex<Box<Watcher>>>,
}

/// Is told of every point passed.
type Watcher = dyn Fn(&'static str) -> Result<(), MigrateError> + Send;

impl FailPoints {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// From the environment; ends the process.
    pub fn from_env() -> Self {
        match std::env::var("BANYAN_FAIL_POINT") {
            Ok(text) if !text.is_empty() => Self::parse(&text, Effect::Abort),
            _ => Self::none(),
        }
    }

    /// For tests in one process: the command returns as if the process had died there.
    pub fn crash_at(point: &str) -> Self {
        Self::parse(point, Effect::Return)
    }

    /// For tests: the step fails and the command cleans up.
    pub fn fail_at(point: &str) -> Self {
        Self::parse(point, Effect::Fail)
    }

    /// For tests: `watcher` runs at every point, so that others act between two steps of one command.
    pub fn watched(watcher: impl Fn(&'static str) + Send + 'static) -> Self {
        Self::decided(move |point| {
            watcher(point);
            Ok(())
        })
    }

    /// For tests: `decide` runs at every point, and its error is the step's.
    pub fn decided(decide: impl Fn(&'static str) -> Result<(), MigrateError> + Send + 'static) -> Self {
        Self { watcher: Some(Mutex::new(Box::new(decide))), ..Self::default() }
    }

    fn parse(text: &str, effect: Effect) -> Self {
        let (name, times) = match text.split_once(':') {
            Some((name, times)) => (name, times.parse().unwrap_or(1)),
            None => (text, 1),
        };
        Self { chosen: Some((name.to_owned(), effect)), passes_left: AtomicU32::new(times), watcher: None }
    }

    /// Passes a point.
    pub fn pass(&self, point: &'static str) -> Result<(), MigrateError> {
        if let Some(watcher) = &self.watcher {
            let watcher = watcher.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            watcher(point)?;
        }
        let Some((_, effect)) = self.chosen.as_ref().filter(|(name, _)| name == point) else {
            return Ok(());
        };
        let passed = self
            .passes_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(1)));
        if passed.is_ok_and(|left| left > 1) {
            return Ok(());
        }
        match effect {
            Effect::Abort => std::process::abort(),
            Effect::Return => Err(MigrateError::Crashed(point)),
            Effect::Fail => Err(MigrateError::failed(format!("the fail point {point} was chosen"))),
        }
    }
}

impl fmt::Debug for FailPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FailPoints").field(&self.chosen).finish()
    }
}
