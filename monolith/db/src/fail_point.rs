//! Named places at which a crash test ends the process, so that background work is known to survive its death there.
//!
//! Set `BANYAN_FAIL_POINT=name`, or `name:3` for the third time it is passed. Always compiled in: the binary that is
//! tested is the one that is shipped. The names: `relay.before_handle`, `relay.after_handle` (the effect is committed, the
//! row is not settled), `relay.settled`; for each step of a saga `saga.<kind>.<step>.before` and `….after` (it ran,
//! which is not written down yet), with `.undo` before the last part on the way back.
//!
//! Invariant: at a fail point nothing is cleaned up, as in a real crash.

use std::sync::atomic::{AtomicU32, Ordering};

/// What happens at the chosen point.
#[derive(Debug, Clone, Copy)]
enum Effect {
    /// The process ends as by `kill -9`.
    Abort,
    /// Whoever passes stops there, for tests in one process.
    #[cfg_attr(
        not(any(test, feature = "testing")),
        expect(dead_code, reason = "only tests stop a part of a process")
    )]
    Stop,
}

/// The chosen fail point, if any.
#[derive(Debug)]
pub(crate) struct FailPoints {
    chosen: Option<(String, Effect)>,
    passes_left: AtomicU32,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Passed {
    On,
    Stopped,
}

impl FailPoints {
    /// From the environment; ends the process.
    pub(crate) fn from_env() -> Self {
        match std::env::var("BANYAN_FAIL_POINT") {
            Ok(text) if !text.is_empty() => Self::parse(&text, Effect::Abort),
            _ => Self::none(),
        }
    }

    pub(crate) fn none() -> Self {
        Self { chosen: None, passes_left: AtomicU32::new(0) }
    }

    /// Stops whoever passes the point, the first time.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn stop_at(point: &str) -> Self {
        Self::parse(point, Effect::Stop)
    }

    fn parse(text: &str, effect: Effect) -> Self {
        let (name, times) = match text.split_once(':') {
            Some((name, times)) => (name, times.parse().unwrap_or(1)),
            None => (text, 1),
        };
        Self { chosen: Some((name.to_owned(), effect)), passes_left: AtomicU32::new(times) }
    }

    /// Passes a point. Its name is only put together where one is chosen.
    pub(crate) fn pass(&self, point: impl FnOnce() -> String) -> Passed {
        let Some((name, effect)) = &self.chosen else { return Passed::On };
        if *name != point() {
            return Passed::On;
        }
        let left =
            self.passes_left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        if left != Ok(1) {
            return Passed::On;
        }
        match effect {
            Effect::Abort => std::process::abort(),
            Effect::Stop => Passed::Stopped,
        }
    }

    /// Whether the chosen point was passed.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn is_reached(&self) -> bool {
        self.chosen.is_some() && self.passes_left.load(Ordering::Acquire) == 0
    }
}
