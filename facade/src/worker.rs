//! One worker: a thread with a runtime of its own, its connections to clients and to upstreams, its counters.
//!
//! Invariant: workers share nothing that is written in the hot path; what they share is read as a snapshot.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use control::Flag;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;

use crate::access_log::LogQueue;
use crate::client::accept::{Reception, listener};
use crate::client::stats::ClientStats;
use crate::client::{Listeners, Scheme};
use crate::current::Current;
use crate::flags::{FlagTable, Flags};
use crate::metrics::WorkerStats;
use crate::phases::identify::Identities;
use crate::plan::{ContextId, Plan, UpstreamId};
use crate::protect::adaptive::Adaptive;
use crate::protect::shedding::Measuring;
use crate::protect::tokens::TokenCache;
use crate::upstream::Balancer;

/// How often idle upstream connections are looked through.
const SWEEP: Duration = Duration::from_secs(10);

/// A worker's state under one plan, shared by the tasks on its thread.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) plan: Arc<Plan>,
    pub(crate) flags: Arc<Flags>,
    pub(crate) stats: Arc<WorkerStats>,
    pub(crate) clients: Arc<ClientStats>,
    pub(crate) ids: Rc<Identities>,
    /// None where the access log is off.
    pub(crate) log: Option<Rc<RefCell<LogQueue>>>,
    /// Tokens that were checked lately.
    pub(crate) tokens: Rc<RefCell<TokenCache>>,
    /// How many requests upstreams get at once.
    pub(crate) adaptive: Adaptive,
    /// Kept for its drop, while the plan sheds by load.
    measuring: Option<Rc<Measuring>>,
    table: RefCell<Cache<Arc<ArcSwap<FlagTable>>, Arc<FlagTable>>>,
    balancers: Vec<Rc<Balancer>>,
}

/// What a worker is started with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) listeners: Listeners,
    pub(crate) plan: Arc<ArcSwap<Plan>>,
    pub(crate) flags: Arc<Flags>,
    pub(crate) stats: Arc<WorkerStats>,
    pub(crate) clients: Arc<ClientStats>,
    pub(crate) log: Option<LogQueue>,
    /// Says that instances of upstreams came or went.
    pub(crate) members: watch::Receiver<()>,
    pub(crate) signals: Signals,
}

/// How a worker is ended: first it takes no more connections and lets requests end, then it ends.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    /// Every connection holds one of these while it lives.
    pub(crate) drain: watch::Receiver<bool>,
    pub(crate) end: watch::Receiver<bool>,
}

impl Worker {
    fn new(start: &mut Start) -> Self {
        let log = start.log.take().map(|queue| Rc::new(RefCell::new(queue)));
        let Start { flags, stats, .. } = &*start;
        let plan = start.plan.load_full();
        let balancer = |upstream: &crate::plan::Upstream| {
            Rc::new(Balancer::new(&upstream.shared, &upstream.policy, plan.limits.connect, None))
        };
        Self {
            balancers: plan.upstreams.iter().map(balancer).collect(),
            table: RefCell::new(Cache::new(flags.table())),
            flags: Arc::clone(flags),
            stats: Arc::clone(stats),
            clients: Arc::clone(&start.clients),
            ids: Rc::new(Identities::new(plan.trace)),
            log,
            tokens: Rc::default(),
            adaptive: Adaptive::new(&plan.protection, &stats.protect, None),
            measuring: measuring(&plan, stats, None),
            plan,
        }
    }

    /// The same worker under a plan that follows. Instances that stay keep their connections.
    pub(crate) fn under(&self, plan: Arc<Plan>) -> Self {
        let is_same = self.plan.limits.connect == plan.limits.connect;
        let balancer = |(place, upstream): (usize, &crate::plan::Upstream)| {
            let before = self.balancers.get(place);
            match before.filter(|before| is_same && Arc::ptr_eq(&before.shared, &upstream.shared)) {
                Some(balancer) => Rc::clone(balancer),
                None => Rc::new(Balancer::new(
                    &upstream.shared,
                    &upstream.policy,
                    plan.limits.connect,
                    before.map(Rc::as_ref),
                )),
            }
        };
        Self {
            balancers: plan.upstreams.iter().enumerate().map(balancer).collect(),
            table: RefCell::new(Cache::new(self.flags.table())),
            flags: Arc::clone(&self.flags),
            stats: Arc::clone(&self.stats),
            clients: Arc::clone(&self.clients),
            ids: Rc::clone(&self.ids),
            log: self.log.clone(),
            tokens: Rc::clone(&self.tokens),
            adaptive: Adaptive::new(&plan.protection, &self.stats.protect, Some(&self.adaptive)),
            measuring: measuring(&plan, &self.stats, self.measuring.as_ref()),
            plan,
        }
    }

    pub(crate) fn balancer(&self, upstream: UpstreamId) -> Option<&Rc<Balancer>> {
        self.balancers.get(upstream.0)
    }

    /// Whether it is known for certain who owns a context.
    pub(crate) fn is_sure(&self, context: ContextId) -> bool {
        self.table.borrow_mut().load().is_sure(context)
    }

    /// Looks at a context's flag in the newest snapshot.
    pub(crate) fn with_flag<T>(&self, context: ContextId, look: impl FnOnce(Option<&Flag>) -> T) -> T {
        look(self.table.borrow_mut().load().get(context))
    }
}

/// The lag is measured only while something is decided by it.
fn measuring(plan: &Plan, stats: &WorkerStats, before: Option<&Rc<Measuring>>) -> Option<Rc<Measuring>> {
    let start = || Rc::new(Measuring::start(&stats.protect.lag));
    plan.protection.shedding.is_on.then(|| before.map_or_else(start, Rc::clone))
}

/// Runs a worker on this thread until it is told to end.
pub(crate) fn run(mut start: Start) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async move {
        let worker = Worker::new(&mut start);
        let workers = Rc::new(Current::new(worker, &start.plan));
        let Start { listeners, members, signals: Signals { drain, mut end }, .. } = start;
        let reception = Reception::new(Rc::clone(&workers), drain);
        for (bound, scheme) in [(listeners.cleartext, Scheme::Http), (listeners.tls, Scheme::Https)] {
            if let Some(listener) = listener(bound)? {
                tokio::task::spawn_local(Rc::clone(&reception).accept(listener, scheme));
            }
        }
        drop(reception);
        tokio::task::spawn_local(follow(Rc::clone(&workers), members));
        tokio::task::spawn_local(sweep(workers));
        // An error means that the one who would tell is gone: reason enough to end.
        let _ = end.wait_for(|end| *end).await;
        Ok(())
    })
}

/// Settings and addresses are followed at once, though no request comes.
async fn follow(workers: Rc<Current>, mut members: watch::Receiver<()>) {
    while members.changed().await.is_ok() {
        workers.get().balancers.iter().for_each(|balancer| balancer.refresh());
    }
}

async fn sweep(workers: Rc<Current>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        workers.get().balancers.iter().for_each(|balancer| balancer.sweep());
    }
}
