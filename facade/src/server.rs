//! The facade as a whole: checked settings, flags, workers.
//!
//! Invariant: when [`Facade::start`] returns, connections are accepted and the flags have been read once; after
//! [`Facade::stop`] no thread of it is left.

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use control::{ControlError, ControlStore};
use jiff::Timestamp;
use platform::error::chain;
use platform::http::{ServeError, announce};
use platform::table::print_line;
use tokio::sync::watch;
use uuid::Uuid;

use crate::access_log::AccessLog;
use crate::check::check_flags;
use crate::client::Listeners;
use crate::client::certificates::{Certificates, Watcher};
use crate::client::stats::ClientStats;
use crate::client::tls::Tls;
use crate::flags::Flags;
use crate::flags::copy::{Copied, FlagsCopy};
use crate::handover::Sockets;
use crate::keeper::{Beginning, Inbox, Keeper, Poke};
use crate::metrics::{self, Source, Totals, Window, WorkerStats};
use crate::overrides::OverrideStats;
use crate::plan::{Plan, PlanError};
use crate::protect;
use crate::protect::keeper::ProtectKeeper;
use crate::reload::{Live, Reloader};
use crate::settings::Settings;
use crate::upstream::health::Checks;
use crate::upstream::names::{Changes, Names, System};
use crate::upstream::resolver::Resolver;
use crate::worker::{self, Signals, Start};

pub use crate::upstream::names::Resolve;

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
    tls_address: Option<SocketAddr>,
    shared: Arc<Shared>,
    drain: watch::Sender<bool>,
    end: watch::Sender<bool>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    /// Ends after the workers, so that their last lines are written.
    log: Option<AccessLog>,
    /// Kept for its drop, which ends the looks at names.
    _resolver: Resolver,
    /// Kept for its drop, which retires the instance.
    _keeper: Keeper,
    /// Kept for its drop, which ends the watch over certificate files.
    _watcher: Option<Watcher>,
}

/// What the admin API sees of a running facade.
pub(crate) struct Shared {
    pub(crate) live: Live,
    pub(crate) flags: Arc<Flags>,
    pub(crate) store: ControlStore,
    pub(crate) poke: Poke,
    pub(crate) instance: String,
    pub(crate) started: Timestamp,
    /// What was counted in the last seconds.
    pub(crate) window: Window,
    pub(crate) stats: Vec<Arc<WorkerStats>>,
    clients: Arc<ClientStats>,
    certificates: Option<Arc<Certificates>>,
    /// What the names of upstreams resolve to.
    pub(crate) names: Names,
    /// Told when instances came or went.
    members: watch::Sender<()>,
    /// Kept for its drop, which ends the health checks.
    checks: Mutex<Option<Checks>>,
    /// Kept for its drop; there is none while there is nothing to fetch or to forget.
    protect: Mutex<Option<ProtectKeeper>>,
}

impl Shared {
    pub(crate) fn metrics(&self) -> String {
        let certificates = self.certificates.as_ref().map(|certificates| certificates.render());
        let plan = self.plan();
        let source = Source { plan: &plan, flags: &self.flags, totals: self.totals() };
        let mut out = metrics::render(&source);
        let protect: Vec<_> = self.stats.iter().map(|worker| &worker.protect).collect();
        protect::stats::render(&mut out, &source.plan.protection, &protect);
        OverrideStats::render(&mut out, self.stats.iter().map(|worker| &worker.overrides));
        out + &crate::upstream::views::render(&plan, &self.names)
            + &self.clients.render()
            + certificates.as_deref().unwrap_or_default()
            + &self.live.render()
    }

    /// The plan that new requests follow.
    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.live.plan().load_full()
    }

    /// Asks the instances of the plan in force how they are, and no others.
    pub(crate) fn check_instances(&self) -> io::Result<()> {
        let checks = Checks::start(&self.plan())?;
        *self.checks.lock().unwrap_or_else(PoisonError::into_inner) = checks;
        Ok(())
    }

    /// Tells the workers that instances came or went, and asks how those are that are there.
    pub(crate) fn took_over(&self, changes: Changes) {
        if changes.any {
            self.members.send_replace(());
        }
        if changes.checked
            && let Err(error) = self.check_instances()
        {
            tracing::error!(%error, "the health checks go on with the instances before: {error}");
        }
    }

    /// Fetches keys for the plan in force, and forgets clients of its limits.
    pub(crate) fn keep_protection(&self) -> io::Result<()> {
        let plan = self.plan();
        let mut keeper = self.protect.lock().unwrap_or_else(PoisonError::into_inner);
        match &*keeper {
            Some(keeper) => keeper.follow(&plan.protection),
            None => *keeper = ProtectKeeper::start(&plan.protection)?,
        }
        Ok(())
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals::read(&self.stats)
    }

    pub(crate) fn workers(&self) -> usize {
        self.stats.len()
    }
}

impl Facade {
    /// Checks the settings, binds, declares the contexts, reads the flags and starts the workers.
    pub fn start(settings: &Settings) -> Result<Self, StartError> {
        Self::start_on(settings, &Sockets::default().complete(settings)?)
    }

    /// The same with another way to find the addresses of names than the system's.
    pub fn start_resolving(settings: &Settings, resolver: Arc<dyn Resolve>) -> Result<Self, StartError> {
        Self::start_with(settings, &Sockets::default().complete(settings)?, resolver)
    }

    /// The same on sockets that are bound already, perhaps by another process.
    pub fn start_on(settings: &Settings, sockets: &Sockets) -> Result<Self, StartError> {
        Self::start_with(settings, sockets, Arc::new(System))
    }

    fn start_with(
        settings: &Settings,
        sockets: &Sockets,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, StartError> {
        let plan = Plan::new(settings)?;
        let listeners = &sockets.clients;
        let [cleartext, tls] = listeners.addresses();
        let address = cleartext.or(tls).ok_or_else(|| io::Error::other("nothing to listen on"))?;
        let copy = FlagsCopy::new(settings);
        let Opened { store, copied } = opened(settings, &plan, copy.as_ref())?;
        let inbox = Inbox::new();
        let hold_limit = Duration::from_millis(settings.control.hold_limit_ms.unsigned_abs());
        let drained = inbox.drained();
        let flags = Arc::new(Flags::new(&plan, hold_limit, move || drained.tell()));
        let instance = format!("facade-{}", Uuid::new_v4().simple());
        let mut beginning = Beginning { copy, to_declare: Vec::new() };
        if let Some(copied) = copied {
            flags.begin_with(copied);
            let contexts = plan.contexts.iter();
            beginning.to_declare = contexts.map(|context| (context.name.clone(), context.data)).collect();
        }
        let keeper = Keeper::start(&store, &instance, &flags, inbox, beginning)?;
        let stats: Vec<_> = (0..worker_count(settings)).map(|_| WorkerStats::new(&plan)).collect();
        let watch = |tls: &Tls| Watcher::start(Arc::clone(&tls.certificates), tls.watch);
        let watcher = plan.clients.tls.as_ref().map(watch).transpose()?;
        let certificates = plan.clients.tls.as_ref().map(|tls| Arc::clone(&tls.certificates));
        let log = AccessLog::start(&plan.access_log)?;
        let names = Names::new(resolver);
        names.settle(&plan);
        let shared = Arc::new(Shared {
            live: Live::new(settings, plan),
            flags,
            store,
            poke: keeper.poke(),
            instance: instance.clone(),
            started: Timestamp::now(),
            window: Window::default(),
            stats,
            clients: Arc::default(),
            certificates,
            names,
            members: watch::Sender::new(()),
            checks: Mutex::default(),
            protect: Mutex::default(),
        });
        let (drain, end) = (watch::Sender::new(false), watch::Sender::new(false));
        shared.check_instances()?;
        let resolver = Resolver::start(Arc::clone(&shared))?;
        shared.keep_protection()?;
        let mut facade = Self {
            address,
            tls_address: tls,
            shared,
            drain,
            end,
            workers: Vec::new(),
            log,
            _resolver: resolver,
            _keeper: keeper,
            _watcher: watcher,
        };
        facade.start_workers(listeners)?;
        if let Some(listener) = &listeners.cleartext {
            announce("listening", listener)?;
        }
        if let Some(address) = tls {
            print_line(&format!("listening https://{address}"));
        }
        tracing::info!(%address, instance, "forwarding what arrives at {address}");
        Ok(facade)
    }

    fn start_workers(&mut self, listeners: &Listeners) -> io::Result<()> {
        for (number, stats) in self.shared.stats.iter().enumerate() {
            let start = Start {
                listeners: listeners.try_clone()?,
                plan: Arc::clone(self.shared.live.plan()),
                flags: Arc::clone(&self.shared.flags),
                stats: Arc::clone(stats),
                clients: Arc::clone(&self.shared.clients),
                log: self.log.as_ref().and_then(AccessLog::queue),
                members: self.shared.members.subscribe(),
                signals: Signals { drain: self.drain.subscribe(), end: self.end.subscribe() },
            };
            let thread = thread::Builder::new().name(format!("worker-{number}"));
            self.workers.push(thread.spawn(move || worker::run(start))?);
        }
        Ok(())
    }

    /// Opens the file of the access log anew, so that one that was renamed is let go.
    pub fn reopen_logs(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
    }

    /// Where clients connect: in cleartext, or over TLS where that is the only way.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients connect over TLS.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// What changes the settings of this facade while it runs.
    pub fn reloader(&self) -> Reloader {
        Reloader::new(self.shared())
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Accepts nothing more, lets requests in flight end within `patience`, and ends.
    pub async fn stop(self, patience: Duration) {
        tracing::info!("accepts no more; what is in flight may take {} s more", patience.as_secs());
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

/// The control store, or what was copied of it.
struct Opened {
    store: ControlStore,
    /// Only where the store cannot be reached.
    copied: Option<Copied>,
}

/// Opens the store and declares the contexts. A store that is gone is not made anew where a copy knows that something was
/// moved: it would say that nothing ever was.
fn opened(settings: &Settings, plan: &Plan, copy: Option<&FlagsCopy>) -> Result<Opened, ControlError> {
    let copied = copy.and_then(FlagsCopy::read);
    let is_known = copied.as_ref().is_some_and(Copied::has_moved);
    let open = if is_known { ControlStore::open_existing } else { ControlStore::open };
    let declared = open(&settings.control).and_then(|store| {
        plan.contexts.iter().try_for_each(|context| store.declare(&context.name, context.data))?;
        for finding in check_flags(None, plan, &store.flags()?) {
            tracing::error!("{}", finding.message);
        }
        Ok(store)
    });
    match (declared, copied) {
        (Ok(store), _) => Ok(Opened { store, copied: None }),
        (Err(error), Some(copied)) => {
            let reason = chain(&error);
            tracing::error!(reason, "starting with the copied flags, since the store is gone: {reason}");
            tracing::error!("if it is gone for good, delete the copy of the flags and start again");
            Ok(Opened { store: ControlStore::open_later(&settings.control)?, copied: Some(copied) })
        }
        (Err(error), None) => Err(error),
    }
}

fn worker_count(settings: &Settings) -> usize {
    match settings.workers {
        0 => thread::available_parallelism().map_or(1, NonZero::get),
        workers => workers,
    }
}
