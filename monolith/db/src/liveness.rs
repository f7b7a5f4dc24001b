//! Whether a server that keeps a call waiting still answers anybody.
//!
//! Invariant: a call is given up only when nobody has heard from the server lately and it does not accept a connection
//! either; so a slow statement, or a busy machine, is never taken for a server that is gone. No timeout of the server's own
//! can tell, since a frozen one keeps none.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::{timeout, timeout_at};

/// An answer that is no older proves that the server lives.
const LATELY: Duration = Duration::from_millis(150);
/// What a probe may take beyond the patience of the call that asks for it.
const GRACE: Duration = Duration::from_millis(200);

/// What this process has heard from one server.
#[derive(Clone)]
pub(crate) struct Liveness {
    inner: Arc<Inner>,
}

struct Inner {
    start: Instant,
    /// When the server last answered anything, in milliseconds since the start.
    heard_ms: AtomicU64,
    /// Held while a probe is under way, so that there is one at a time.
    probe: Arc<Mutex<()>>,
}

impl Liveness {
    pub(crate) fn new() -> Self {
        let inner = Inner { start: Instant::now(), heard_ms: AtomicU64::new(0), probe: Arc::default() };
        Self { inner: Arc::new(inner) }
    }

    /// The server has answered just now.
    pub(crate) fn heard(&self) {
        self.inner.heard_ms.store(self.millis(Instant::now()), Ordering::Relaxed);
    }

    /// Waits for the task, and goes on as long as there are signs of life. `None` when there are none within the patience
    /// and a little more.
    pub(crate) async fn wait<T>(
        &self,
        task: impl Future<Output = T>,
        began: Instant,
        patience: Duration,
        probe: impl Fn() -> bool + Clone + Send + 'static,
    ) -> Option<T> {
        let (mut task, mut from) = (pin!(task), began);
        loop {
            // Half of the time to wait, the other half and the grace to find out.
            if let Ok(ended) = timeout_at((from + patience / 2).into(), &mut task).await {
                return Some(ended);
            }
            let asked = Instant::now();
            let left = (from + patience + GRACE).saturating_duration_since(asked);
            tokio::select! {
                biased;
                ended = &mut task => return Some(ended),
                alive = self.answers(asked, left, probe.clone()) => if !alive { return None },
            }
            from = Instant::now();
        }
    }

    async fn answers(
        &self,
        asked: Instant,
        left: Duration,
        probe: impl Fn() -> bool + Send + 'static,
    ) -> bool {
        if self.heard_since(asked - LATELY) {
            return true;
        }
        let probed = async {
            let turn = Arc::clone(&self.inner.probe).lock_owned().await;
            if self.heard_since(asked) {
                return true;
            }
            let liveness = self.clone();
            let probed = tokio::task::spawn_blocking(move || {
                let alive = probe();
                if alive {
                    liveness.heard();
                }
                drop(turn);
                alive
            });
            probed.await.unwrap_or(false)
        };
        // Meanwhile another call may have been answered.
        timeout(left, probed).await.unwrap_or(false) || self.heard_since(asked)
    }

    fn heard_since(&self, instant: Instant) -> bool {
        self.inner.heard_ms.load(Ordering::Relaxed) > self.millis(instant)
    }

    fn millis(&self, instant: Instant) -> u64 {
        let passed = instant.saturating_duration_since(self.inner.start);
        u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
    }
}
