//! Watching the control store: a thread that notices a change within a few milliseconds and says what it serves.
//!
//! Invariant: with the store gone, nothing is reported but the error; whoever listens keeps the flags it has.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::error::ControlError;
use crate::flag::Flag;
use crate::flags::load_all;
use crate::instances::{Ack, Heartbeat, InstanceKind, write_heartbeat};
use crate::store::{ControlSettings, ControlStore, connect};

/// The flags are read that often without a commit by others, too: a report of lag grows old by itself.
const LOOK_ANYHOW: Duration = Duration::from_secs(1);

/// A running watch. Dropping it ends the thread and retires the instance.
pub struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
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
    acks: Vec<Ack>,
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
            store,
            instance,
            kind,
            shared: Arc::clone(&shared),
            on_change,
            conn: None,
            seen: None,
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

    /// Says what the instance serves now; reported at once.
    pub fn set_acks(&self, acks: Vec<Ack>) {
        self.shared.lock().acks = acks;
        self.poke();
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
    instance: String,
    kind: InstanceKind,
    shared: Arc<Shared>,
    on_change: F,
    conn: Option<SqliteConnection>,
    /// `PRAGMA data_version` at the last reading, and when that was: it changes with every commit by another
    /// connection.
    seen: Option<(i64, Instant)>,
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
        let pause = Duration::from_millis(self.store.settings().poll_ms.max(1));
        let mut failing = false;
        while !self.shared.lock().stop {
            match self.look().and_then(|()| self.report()) {
                Ok(()) => failing = false,
                Err(error) => {
                    self.conn = None;
                    self.seen = None;
                    self.flags = None;
                    if !failing {
                        failing = true;
                        let acks = (self.on_change)(Err(&error));
                        self.shared.lock().acks = acks;
                    }
                }
            }
            self.wait(pause);
        }
        if let Err(error) = self.store.retire(&self.instance) {
            tracing::warn!(%error, "could not retire instance {}", self.instance);
        }
    }

    fn look(&mut self) -> Result<(), ControlError> {
        let conn = match &mut self.conn {
            Some(conn) => conn,
            None => self.conn.insert(watching(self.store.settings())?),
        };
        let version = diesel::sql_query("PRAGMA data_version").get_result::<DataVersion>(conn)?.data_version;
        if self.seen.is_some_and(|(seen, at)| seen == version && at.elapsed() < LOOK_ANYHOW) {
            return Ok(());
        }
        let flags = load_all(conn, self.store.settings())?;
        self.seen = Some((version, Instant::now()));
        if self.flags.as_ref() != Some(&flags) {
            let acks = (self.on_change)(Ok(&flags));
            self.flags = Some(flags);
            self.shared.lock().acks = acks;
        }
        Ok(())
    }

    fn report(&mut self) -> Result<(), ControlError> {
        let acks = self.shared.lock().acks.clone();
        let beat = Duration::from_millis(u64::try_from(self.store.settings().lease_ms / 6).unwrap_or(500));
        let is_told = self.told.as_ref().is_some_and(|(told, at)| *told == acks && at.elapsed() < beat);
        if is_told {
            return Ok(());
        }
        let (instance, kind) = (self.instance.clone(), self.kind);
        let heartbeat = Heartbeat { instance, kind, acks: acks.clone() };
        let Some(conn) = &mut self.conn else { return Ok(()) };
        conn.immediate_transaction(|conn| write_heartbeat(conn, &heartbeat))?;
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

/// A connection whose commits do not wait for the disk: a sign of life lost in a power cut is no loss, and whoever
/// waits for a slow disk notices a change of a flag late.
fn watching(settings: &ControlSettings) -> Result<SqliteConnection, ControlError> {
    let mut conn = connect(settings)?;
    conn.batch_execute("PRAGMA synchronous = NORMAL;")?;
    Ok(conn)
}

#[derive(QueryableByName)]
struct DataVersion {
    #[diesel(sql_type = BigInt)]
    data_version: i64,
}
