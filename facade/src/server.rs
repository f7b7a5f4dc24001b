//! The facade as a whole: checked settings, flags, workers.
//!
//! Invariant: when [`Facade::start`] returns, connections are accepted and the flags have been read once; after
//! [`Facade::stop`] no thread of it is left.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZero;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use control::{ControlError, ControlStore};
use platform::http::{ServeError, announce, bind};
use tokio::sync::watch;
use uuid::Uuid;

use crate::flags::Flags;
use crate::keeper::{Inbox, Keeper, Poke};
use crate::metrics::{self, WorkerStats};
use crate::plan::{Plan, PlanError};
use crate::settings::Settings;
use crate::upstream::health::Checks;
use crate::worker::{self, Signals, Start};

/// Why a facade does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings do not fit together.
    #[error(transparent)]
    Settings(#[from] PlanError),
    /// An address is taken.
    #[error(transparent)]
    Listen(#[from] ServeError),
    /// The control store cannot be used.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The system refuses threads or sockets.
    #[error("cannot start a worker")]
    Worker(#[from] io::Error),
}

/// A running facade.
pub struct Facade {
    address: SocketAddr,
    shared: Arc<Shared>,
    drain: watch::Sender<bool>,
    end: watch::Sender<bool>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    /// Kept for its drop, which retires the instance.
    _keeper: Keeper,
    /// Kept for its drop, which ends the health checks.
    _checks: Option<Checks>,
}

/// What the admin API sees of a running facade.
pub(crate) struct Shared {
    pub(crate) plan: Arc<Plan>,
    pub(crate) flags: Arc<Flags>,
    pub(crate) store: ControlStore,
    pub(crate) poke: Poke,
    stats: Vec<Arc<WorkerStats>>,
}

impl Shared {
    pub(crate) fn metrics(&self) -> String {
        metrics::render(&self.plan, &self.stats, &self.flags) + &crate::upstream::views::render(&self.plan)
    }
}

impl Facade {
    /// Checks the settings, binds, declares the contexts, reads the flags and starts the workers.
    pub fn start(settings: &Settings) -> Result<Self, StartError> {
        let plan = Arc::new(Plan::new(settings)?);
        let listener = bind(&settings.listen, "listen")?;
        let address = listener.local_addr()?;
        let store = ControlStore::open(&settings.control)?;
        for context in &plan.contexts {
            store.declare(&context.name, context.data)?;
        }
        let inbox = Inbox::new();
        let hold_limit = Duration::from_millis(settings.control.hold_limit_ms.unsigned_abs());
        let drained = inbox.drained();
        let flags = Arc::new(Flags::new(&plan, hold_limit, move || drained.tell()));
        let instance = format!("facade-{}", Uuid::new_v4().simple());
        let keeper = Keeper::start(&store, &instance, &flags, inbox)?;
        let stats: Vec<_> = (0..worker_count(settings)).map(|_| WorkerStats::new(&plan)).collect();
        let shared = Arc::new(Shared { plan, flags, store, poke: keeper.poke(), stats });
        let (drain, end) = (watch::Sender::new(false), watch::Sender::new(false));
        let checks = Checks::start(&shared.plan)?;
        let mut facade =
            Self { _checks: checks, address, shared, drain, end, workers: Vec::new(), _keeper: keeper };
        facade.start_workers(&listener)?;
        announce("listening", &listener)?;
        tracing::info!(%address, instance, "forwarding what arrives at {address}");
        Ok(facade)
    }

    fn start_workers(&mut self, listener: &TcpListener) -> io::Result<()> {
        for (number, stats) in self.shared.stats.iter().enumerate() {
            let start = Start {
                listener: listener.try_clone()?,
                plan: Arc::clone(&self.shared.plan),
                flags: Arc::clone(&self.shared.flags),
                stats: Arc::clone(stats),
                signals: Signals { drain: self.drain.subscribe(), end: self.end.subscribe() },
            };
            let thread = thread::Builder::new().name(format!("worker-{number}"));
            self.workers.push(thread.spawn(move || worker::run(start))?);
        }
        Ok(())
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Accepts nothing more, lets requests in flight end within `patience`, and ends.
    pub async fn stop(self, patience: Duration) {
        self.drain.send_replace(true);
        // Every connection holds a receiver: when all are gone, all connections are.
        if tokio::time::timeout(patience, self.drain.closed()).await.is_err() {
            tracing::warn!("requests were still in flight after {} s and are cut off", patience.as_secs());
        }
        drop(self);
    }
}

impl Drop for Facade {
    fn drop(&mut self) {
        self.end.send_replace(true);
        for worker in self.workers.drain(..) {
            if !matches!(worker.join(), Ok(Ok(()))) {
                tracing::error!("a worker ended with an error");
            }
        }
    }
}

fn worker_count(settings: &Settings) -> usize {
    match settings.workers {
        0 => thread::available_parallelism().map_or(1, NonZero::get),
        workers => workers,
    }
}
