//! The gate that a context's writes pass, and that a cut-over closes for a moment.
//!
//! Invariant: a write counts itself before it looks at the gate, and the keeper closes the gate before it looks at
//! the count. Both orders are sequentially consistent, so at least one of the two sees the other: no write is under
//! way that a closed gate with a count of zero does not know of.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// One context's gate.
pub(crate) struct Gate {
    in_flight: AtomicU64,
    held: AtomicBool,
    released: Notify,
    /// Told when the last write in flight ends while the gate is closed.
    on_drained: Box<dyn Fn() + Send + Sync>,
}

/// A write under way; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct WriteGuard(Arc<Gate>);

/// A write through the gate, and how long it was held.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) guard: WriteGuard,
    pub(crate) waited: Option<Duration>,
}

/// The gate stayed closed for longer than a write waits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StillHeld;

impl Gate {
    pub(crate) fn new(on_drained: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            in_flight: AtomicU64::new(0),
            held: AtomicBool::new(false),
            released: Notify::new(),
            on_drained: Box::new(on_drained),
        })
    }

    /// Lets a write pass, or makes it wait for at most `limit`.
    pub(crate) async fn enter(self: &Arc<Self>, limit: Duration) -> Result<Entered, StillHeld> {
        match self.try_enter() {
            Some(guard) => Ok(Entered { guard, waited: None }),
            None => Box::pin(self.wait(limit)).await,
        }
    }

    async fn wait(self: &Arc<Self>, limit: Duration) -> Result<Entered, StillHeld> {
        let since = Instant::now();
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // Registered before the gate is tried again: a release between the two would otherwise be missed.
            released.as_mut().enable();
            if let Some(guard) = self.try_enter() {
                return Ok(Entered { guard, waited: Some(since.elapsed()) });
            }
            timeout_at(since + limit, released).await.map_err(|_| StillHeld)?;
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<WriteGuard> {
        if self.held.load(Ordering::SeqCst) {
            return None;
        }
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let guard = WriteGuard(Arc::clone(self));
        (!self.held.load(Ordering::SeqCst)).then_some(guard)
    }

    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    pub(crate) fn release(&self) {
        self.held.store(false, Ordering::SeqCst);
        self.released.notify_waiters();
    }

    /// Closed, and no write under way.
    pub(crate) fn is_drained(&self) -> bool {
        self.held.load(Ordering::SeqCst) && self.in_flight.load(Ordering::SeqCst) == 0
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("in_flight", &self.in_flight)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        let last = self.0.in_flight.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.0.held.load(Ordering::SeqCst) {
            (self.0.on_drained)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn gate() -> (Arc<Gate>, mpsc::Receiver<()>) {
        let (sender, receiver) = mpsc::channel();
        (Gate::new(move || sender.send(()).unwrap()), receiver)
    }

    #[tokio::test]
    async fn an_open_gate_lets_writes_pass_and_counts_them() {
        let (gate, _drained) = gate();
        let entered = gate.enter(LONG).await.unwrap();
        assert_eq!((gate.in_flight(), entered.waited), (1, None));
        drop(entered);
        assert_eq!(gate.in_flight(), 0);
    }

    #[tokio::test]
    async fn the_last_write_under_way_tells_that_it_has_ended() {
        let (gate, drained) = gate();
        let (first, second) = (gate.enter(LONG).await.unwrap(), gate.enter(LONG).await.unwrap());
        gate.hold();
        drop(first);
        assert!(!gate.is_drained() && drained.try_recv().is_err());
        drop(second);
        assert!(gate.is_drained() && drained.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_held_write_passes_at_release() {
        let (gate, _drained) = gate();
        gate.hold();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter(LONG).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished() && gate.is_drained());
        gate.release();
        let entered = waiting.await.unwrap().unwrap();
        assert!(entered.waited.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_does_not_wait_for_ever() {
        let (gate, _drained) = gate();
        gate.hold();
        assert_eq!(gate.enter(LONG).await.unwrap_err(), StillHeld);
        assert!(gate.is_drained());
    }

    #[test]
    fn no_write_slips_through_a_gate_that_counts_as_drained() {
        for _ in 0..200 {
            let (gate, _drained) = gate();
            let writers: Vec<_> = (0..4)
                .map(|_| {
                    let gate = Arc::clone(&gate);
                    std::thread::spawn(move || gate.try_enter())
                })
                .collect();
            gate.hold();
            let drained_at_once = gate.is_drained();
            let inside: Vec<_> = writers.into_iter().filter_map(|writer| writer.join().unwrap()).collect();
            // Whoever is inside was counted before the gate was looked at.
            assert!(!drained_at_once || inside.is_empty());
            drop(inside);
            assert!(gate.is_drained());
        }
    }
}
