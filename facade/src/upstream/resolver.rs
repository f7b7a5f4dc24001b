//! Looks at the names of upstreams again and again, on one thread.
//!
//! Invariant: settings do not change while addresses do: both take the same turn.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::server::Shared;
use crate::upstream::chance::jitter;

/// How soon a name that has no address at all is looked at again, if not sooner.
const SOON_MS: u64 = 1_000;

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Resolver {
    /// Kept for its drop, which is heard.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    pub(crate) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let (end, ended) = mpsc::channel();
        let thread = thread::Builder::new().name("names".to_owned()).spawn(move || {
            while ended.recv_timeout(pause(&shared)) == Err(RecvTimeoutError::Timeout) {
                look(&shared);
            }
        })?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        drop(self.end.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that resolves names ended with an error");
        }
    }
}

fn pause(shared: &Shared) -> Duration {
    let plan = shared.plan();
    let is_missing = plan.names().iter().any(|name| shared.names.known(name).addresses.is_empty());
    let interval = plan.dns.interval_ms;
    let interval = if is_missing { interval.min(SOON_MS) } else { interval };
    // A tenth at random, so that many facades do not ask at the same moment.
    Duration::from_millis(interval.saturating_add(jitter(interval / 10)))
}

fn look(shared: &Shared) {
    let plan = shared.plan();
    let names = plan.names();
    shared.names.ask(&names, &plan.dns);
    let _turn = shared.live.turn();
    let plan = shared.plan();
    shared.names.keep(&plan.names());
    let changes = shared.names.apply(&plan);
    shared.took_over(changes);
}
