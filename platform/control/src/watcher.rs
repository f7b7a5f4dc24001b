//! Watching the control store: a thread that notices a change within a few milliseconds and says what it serves.
//!
//! Invariants: with the store gone, nothing is reported but the error, and whoever listens keeps the flags it has; of
//! two words on what is served, the older never takes the place of the newer.

mod backoff;
mod source;
mod word;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::ControlError;
use crate::flag::Flag;
use crate::instances::{Ack, Heartbeat, InstanceKind};
use crate::store::ControlStore;
use source::Source;
use word::Word;

/// Pauses between attempts to reach a server that is away.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A running watch. Dropping it ends the thread and retires the instance.
pub struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// How the store was when it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vitals {
    /// Whether the last look succeeded.
    pub up: bool,
    /// How long ago the store was last read or found unchanged; none before the first time.
    pub age: Option<Duration>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    poked: bool,
    stop: bool,
    word: Word,
    up: bool,
    read_at: Option<Instant>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Watches `store` in the name of `instance`.
    ///
    /// `on_change` runs on the watching thread: at once with the present flags, after every change, and with the
    /// error when the store cannot be read (once, until it can be again). It returns what the instance serves now.
    pub fn spawn(
        store: ControlStore,
        instance: String,
        kind: InstanceKind,
        on_change: impl FnMut(Result<&[Flag], &ControlError>) -> Vec<Ack> + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watch = Watch {
            source: Source::new(&store),
            store,
            instance,
            kind,
            shared: Arc::clone(&shared),
            on_change,
            flags: None,
            told: None,
        };
        let thread = thread::Builder::new().name("control-watch".to_owned()).spawn(move || watch.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Looks at the store now instead of at the next turn.
    pub fn poke(&self) {
        self.shared.lock().poked = true;
        self.shared.changed.notify_one();
    }

    /// Says what the instance serves now; reported at once. It takes the place of what `on_change` returns if that was
    /// under way meanwhile, and never that of a newer token.
    pub fn set_acks(&self, acks: Vec<Ack>) {
        self.shared.lock().word.say(acks);
        self.poke();
    }

    /// How the store was when it was last looked at.
    pub fn vitals(&self) -> Vitals {
        let state = self.shared.lock();
        Vitals { up: state.up, age: state.read_at.map(|at| at.elapsed()) }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

struct Watch<F> {
    store: ControlStore,
    source: Source,
    instance: String,
    kind: InstanceKind,
    shared: Arc<Shared>,
    on_change: F,
    /// What `on_change` was last told; nothing after an error.
    flags: Option<Vec<Flag>>,
    /// What the store was last told, and when.
    told: Option<(Vec<Ack>, Instant)>,
}

impl<F> Watch<F>
where
    F: FnMut(Result<&[Flag], &ControlError>) -> Vec<Ack>,
{
    fn run(mut self) {
        let turn = Duration::from_millis(self.store.settings().poll_ms.max(1));
        let mut failures = 0_u32;
        while !self.shared.lock().stop {
            let pause = match self.look().and_then(|()| self.report()) {
                Ok(()) => {
                    failures = 0;
                    self.shared.lock().up = true;
                    turn
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.fail(&error, failures);
                    turn.max(backoff::jittered(SHORTEST_PAUSE, LONGEST_PAUSE, failures))
                }
            };
            self.wait(pause);
        }
        if let Err(error) = self.store.retire(&self.instance) {
            tracing::warn!(%error, "could not retire instance {}", self.instance);
        }
    }

    fn look(&mut self) -> Result<(), ControlError> {
        let found = self.source.look(&self.store)?;
        if let Some(at) = found.asked_at {
            self.shared.lock().read_at = Some(at);
        }
        let Some(flags) = found.flags.filter(|flags| self.flags.as_ref() != Some(flags)) else {
            return Ok(());
        };
        self.tell(Ok(&flags));
        self.flags = Some(flags);
        Ok(())
    }

    fn fail(&mut self, error: &ControlError, failures: u32) {
        self.source.reset();
        self.flags = None;
        self.shared.lock().up = false;
        if failures == 1 {
            self.tell(Err(error));
            // A store that was set back has older tokens, which count when it can be read again.
            self.shared.lock().word.forget_tokens();
        }
    }

    fn tell(&mut self, change: Result<&[Flag], &ControlError>) {
        let began = self.shared.lock().word.sequence();
        let acks = (self.on_change)(change);
        self.shared.lock().word.answer(acks, began);
    }

    fn report(&mut self) -> Result<(), ControlError> {
        let acks = self.shared.lock().word.acks().to_vec();
        let beat = Duration::from_millis(u64::try_from(self.store.settings().lease_ms / 6).unwrap_or(500));
        let is_told = self.told.as_ref().is_some_and(|(told, at)| *told == acks && at.elapsed() < beat);
        if is_told {
            return Ok(());
        }
        let heartbeat = Heartbeat { instance: self.instance.clone(), kind: self.kind, acks: acks.clone() };
        self.source.report(heartbeat)?;
        self.told = Some((acks, Instant::now()));
        Ok(())
    }

    fn wait(&self, pause: Duration) {
        let state = self.shared.lock();
        let idle = |state: &mut State| !state.poked && !state.stop;
        let waited = self.shared.changed.wait_timeout_while(state, pause, idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.poked = false;
    }
}
