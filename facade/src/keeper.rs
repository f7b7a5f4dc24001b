//! Keeps the data plane's flags in step with the control store, and ends holds that last too long.
//!
//! Invariant: the data plane never waits for the store. What blocks runs here, on two threads of its own: the
//! store's watcher and the keeper.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use control::{ControlError, ControlStore, DataMode, Flag, InstanceKind, Watcher, Who, now_ms};
use platform::error::chain;

use crate::flags::copy::{CopyKeeper, FlagsCopy};
use crate::flags::{Flags, Overdue};

enum Event {
    /// A gate's last write has ended, or flags have changed.
    Look,
    Stop,
}

/// The running keeper. Dropping it ends both threads and retires the instance.
pub(crate) struct Keeper {
    watcher: Arc<Watcher>,
    thread: Option<JoinHandle<()>>,
    events: Sender<Event>,
    /// After the watcher, which tells it what to copy.
    _copy: Option<CopyKeeper>,
}

/// What a keeper begins with.
#[derive(Debug, Default)]
pub(crate) struct Beginning {
    /// Where the copy of the flags is kept.
    pub(crate) copy: Option<FlagsCopy>,
    /// Contexts that the store does not know of yet, since it could not be reached.
    pub(crate) to_declare: Vec<(String, DataMode)>,
}

/// Makes the watcher look at the store at once.
#[derive(Clone)]
pub(crate) struct Poke(Weak<Watcher>);

impl Poke {
    pub(crate) fn poke(&self) {
        if let Some(watcher) = self.0.upgrade() {
            watcher.poke();
        }
    }
}

/// Where gates say that they have drained, before the keeper runs and after.
#[derive(Debug, Clone)]
pub(crate) struct Drained(Sender<Event>);

impl Drained {
    pub(crate) fn tell(&self) {
        // After the keeper has ended there is nobody to acknowledge to.
        let _ = self.0.send(Event::Look);
    }
}

/// Events on their way to a keeper that is yet to run.
#[derive(Debug)]
pub(crate) struct Inbox(Sender<Event>, Receiver<Event>);

impl Inbox {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        Self(sender, receiver)
    }

    pub(crate) fn drained(&self) -> Drained {
        Drained(self.0.clone())
    }
}

impl Keeper {
    /// Starts both threads; returns once the flags have been read for the first time.
    pub(crate) fn start(
        store: &ControlStore,
        instance: &str,
        flags: &Arc<Flags>,
        inbox: Inbox,
        Beginning { copy, to_declare }: Beginning,
    ) -> io::Result<Self> {
        let Inbox(events, receiver) = inbox;
        let (copy, copier) = copy.map(|copy| CopyKeeper::start(copy, flags)).transpose()?.unzip();
        let (read, first_reading) = mpsc::channel();
        let on_change = {
            let (flags, events) = (Arc::clone(flags), events.clone());
            move |change: Result<&[Flag], &ControlError>| {
                take(&flags, change);
                if let (Ok(found), Some(copier)) = (change, &copier) {
                    // Its thread ends only after this one.
                    let _ = copier.send(found.to_vec());
                }
                let _ = events.send(Event::Look);
                let _ = read.send(());
                flags.acks()
            }
        };
        let watcher =
            Arc::new(Watcher::spawn(store.clone(), instance.to_owned(), InstanceKind::Facade, on_change)?);
        let _ = first_reading.recv();
        flags.watched_by(&watcher);
        let run =
            Run { store: store.clone(), flags: Arc::clone(flags), watcher: Arc::clone(&watcher), to_declare };
        let thread =
            thread::Builder::new().name("flag-keeper".to_owned()).spawn(move || run.run(&receiver))?;
        Ok(Self { watcher, thread: Some(thread), events, _copy: copy })
    }

    pub(crate) fn poke(&self) -> Poke {
        Poke(Arc::downgrade(&self.watcher))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

fn take(flags: &Flags, change: Result<&[Flag], &ControlError>) {
    match change {
        Ok(found) => {
            flags.apply(found, Instant::now(), now_ms());
            tracing::debug!(flags = ?found, "flags changed");
        }
        Err(error) => {
            let reason = chain(error);
            tracing::warn!(reason, "the control store cannot be read; the last known flags go on: {reason}");
            flags.set_trouble(reason);
        }
    }
}

struct Run {
    store: ControlStore,
    flags: Arc<Flags>,
    watcher: Arc<Watcher>,
    to_declare: Vec<(String, DataMode)>,
}

impl Run {
    fn run(mut self, events: &Receiver<Event>) {
        loop {
            let event = match self.flags.next_deadline() {
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline) => events.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            };
            if matches!(event, Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected)) {
                return;
            }
            if !self.flags.is_copied() {
                self.declare();
            }
            for overdue in self.flags.overdue(Instant::now()) {
                self.settle(overdue);
            }
            self.watcher.set_acks(self.flags.acks());
        }
    }

    /// What the start could not declare; whatever fails is tried again when the store has something to tell.
    fn declare(&mut self) {
        let store = &self.store;
        self.to_declare.retain(|(context, data)| match store.declare(context, *data) {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(error = chain(&error), "the context {context} cannot be declared yet");
                true
            }
        });
    }

    /// On a thread of its own, since the store may be slow and other contexts' holds must not wait for it. Without a
    /// thread the hold stays overdue, and is let go after its last attempt.
    fn settle(&self, overdue: Overdue) {
        let (store, flags, watcher) =
            (self.store.clone(), Arc::clone(&self.flags), Arc::clone(&self.watcher));
        let work = move || {
            if let Err(error) = end_hold(&store, &overdue) {
                tracing::warn!(
                    error = chain(&error),
                    "writes of {} go on: the hold cannot be ended",
                    overdue.name
                );
                flags.let_go(&overdue);
            }
            watcher.poke();
        };
        if let Err(error) = thread::Builder::new().name("flag-settle".to_owned()).spawn(work) {
            tracing::warn!(%error, "no thread to end a hold with");
        }
    }
}

fn end_hold(store: &ControlStore, overdue: &Overdue) -> Result<(), ControlError> {
    let who = Who::new("facade", "the facade's hold ran out");
    if store.abort_switch(&overdue.name, overdue.token, &who)? {
        tracing::warn!(context = overdue.name, "gave up holding the writes of {}", overdue.name);
        return Ok(());
    }
    store.settle(&overdue.name).map(drop)
}
