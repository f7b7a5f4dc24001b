//! A context's flag as this process serves it.
//!
//! Invariant: no write begins while the flag holds writes, and the number of those in flight is known, so that "held,
//! and none in flight" is said only when it is so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use control::{Ack, ControlError, ControlStore, Flag, Side};
use tokio::sync::{Notify, watch};

/// Waits for a hold to end are cut into steps no longer than this, since a hold also ends by its deadline.
const STEP: Duration = Duration::from_millis(20);

/// The flag of one context, shared by the follower that publishes it and the decorators that obey it.
#[derive(Debug, Clone)]
pub struct Flags(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    published: watch::Sender<i64>,
    idle: Notify,
}

#[derive(Debug)]
struct State {
    flag: Flag,
    in_flight: u64,
}

/// A write that was let begin; dropping it says that it has ended.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    /// Where to write.
    pub side: Side,
}

impl Flags {
    /// Starts with the flag as it is in the store; a context that no facade declared yet is at the monolith.
    /// Blocking.
    pub fn load(control: &ControlStore, context: &str) -> Result<Self, ControlError> {
        match control.flag(context) {
            Ok(flag) => Ok(Self::new(flag)),
            Err(ControlError::UnknownContext { .. }) => Ok(Self::new(Flag::unmoved(context))),
            Err(error) => Err(error),
        }
    }

    /// Starts with this flag.
    pub fn new(flag: Flag) -> Self {
        let published = watch::Sender::new(flag.token);
        let state = Mutex::new(State { flag, in_flight: 0 });
        Self(Arc::new(Shared { state, published, idle: Notify::new() }))
    }

    /// The flag in force here.
    pub fn current(&self) -> Flag {
        self.0.lock().flag.clone()
    }

    /// Puts a flag in force and returns what this process serves from now on.
    pub fn publish(&self, flag: Flag) -> Ack {
        let token = flag.token;
        self.0.lock().flag = flag;
        self.0.published.send_replace(token);
        self.ack()
    }

    /// What this process serves.
    pub fn ack(&self) -> Ack {
        let state = self.0.lock();
        let held = state.flag.hold.is_some() && state.in_flight == 0;
        Ack { context: state.flag.context.clone(), token: state.flag.token, held }
    }

    /// Lets a write begin, waiting while writes are held, at most `patience`.
    pub async fn begin_write(&self, patience: Duration) -> Option<Permit> {
        let started = tokio::time::Instant::now();
        let mut published = self.0.published.subscribe();
        loop {
            published.mark_unchanged();
            if let Some(permit) = self.try_begin() {
                return Some(permit);
            }
            if started.elapsed() >= patience {
                return None;
            }
            let _ = tokio::time::timeout(STEP, published.changed()).await;
        }
    }

    /// Resolves after the last write in flight under a hold has ended.
    pub(crate) async fn drained(&self) {
        self.0.idle.notified().await;
    }

    /// A receiver that notices every published flag.
    pub(crate) fn subscribe(&self) -> watch::Receiver<i64> {
        self.0.published.subscribe()
    }

    fn try_begin(&self) -> Option<Permit> {
        let mut state = self.0.lock();
        if state.flag.hold.is_some() {
            return None;
        }
        state.in_flight += 1;
        Some(Permit { shared: Arc::clone(&self.0), side: state.flag.side_of_write() })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.in_flight -= 1;
        if state.in_flight == 0 && state.flag.hold.is_some() {
            self.shared.idle.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use control::Hold;

    use super::*;

    fn held(token: i64) -> Flag {
        let hold = Hold { token, to: Side::Service, began_ms: 0, deadline_ms: 0, flipped: false };
        Flag { token, hold: Some(hold), ..Flag::unmoved("users") }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_is_acknowledged_once_writes_in_flight_have_ended() {
        let flags = Flags::new(Flag::unmoved("users"));
        let permit = flags.begin_write(Duration::ZERO).await.unwrap();
        assert!(!flags.publish(held(1)).held);
        assert!(flags.begin_write(Duration::from_millis(100)).await.is_none());
        drop(permit);
        flags.drained().await;
        assert_eq!(flags.ack(), Ack { context: "users".into(), token: 1, held: true });
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_write_begins_at_the_new_owner() {
        let flags = Flags::new(held(1));
        let waiting = flags.clone();
        let write = tokio::spawn(async move { waiting.begin_write(Duration::from_secs(1)).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        flags.publish(Flag { token: 2, writes: Side::Service, ..Flag::unmoved("users") });
        assert_eq!(write.await.unwrap().unwrap().side, Side::Service);
    }
}
