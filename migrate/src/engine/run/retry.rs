//! Going on when a database was away.
//!
//! Invariant: only [`MigrateError::Unreachable`] is tried again, on new connections, after pauses that grow up to a limit and
//! differ from thread to thread, so that a database that comes back is not met by all at once.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use super::shared::Shared;
use crate::error::MigrateError;

/// The first pause.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(10);

/// What a thread does after a step.
pub(super) enum Next {
    /// The next step, after a rest.
    Rest(Duration),
    /// Nothing more.
    End,
}

/// Takes step after step until one says that it was the last, or until all is stopped.
pub(super) fn keep_on<S>(
    shared: &Shared<'_>,
    name: &str,
    mut open: impl FnMut() -> Result<S, MigrateError>,
    mut step: impl FnMut(&mut S) -> Result<Next, MigrateError>,
) -> Result<(), MigrateError> {
    let mut session = None;
    let mut failures = 0;
    while !shared.is_stopped() {
        let opened = match &mut session {
            Some(opened) => Ok(opened),
            None => open().map(|opened| session.insert(opened)),
        };
        match opened.and_then(&mut step) {
            Ok(Next::End) => {
                shared.waits_no_more(name);
                return Ok(());
            }
            Ok(Next::Rest(time)) => {
                failures = 0;
                shared.waits_no_more(name);
                shared.rest(time);
            }
            Err(error @ MigrateError::Unreachable { .. }) => {
                session = None;
                let pause = pause(failures);
                failures += 1;
                shared.waits_for(name, &error, pause);
                shared.rest(pause);
            }
            Err(error) => return Err(error),
        }
    }
    shared.gives_up_waiting(name);
    Ok(())
}

/// Doubles with every failure; between half of it and all of it is waited.
pub(crate) fn pause(failures: u32) -> Duration {
    let full = FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST);
    let half = full / 2;
    let chance = std::collections::hash_map::RandomState::new().build_hasher().finish();
    half + Duration::from_micros(chance % u64::try_from(half.as_micros()).unwrap_or(1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        assert!(pause(0) < pause(3));
        assert!(pause(3) < LONGEST / 2 && pause(60) <= LONGEST && pause(60) >= LONGEST / 2);
        assert!((0..50).map(|_| pause(60)).any(|other| other != pause(60)));
    }
}
