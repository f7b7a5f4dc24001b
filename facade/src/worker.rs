//! One worker: a thread with a runtime of its own, its connections to clients and to upstreams, its counters.
//!
//! Invariant: workers share nothing that is written in the hot path; what they share is read as a snapshot.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use control::Flag;
use http::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;

use crate::flags::{FlagTable, Flags};
use crate::metrics::WorkerStats;
use crate::phases;
use crate::phases::identify::RequestIds;
use crate::plan::{ContextId, Plan, UpstreamId};
use crate::upstream::Balancer;

/// How often idle upstream connections are looked through.
const SWEEP: Duration = Duration::from_secs(10);
/// Pause after an accept that failed for want of descriptors or memory, so that it does not fail in a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A worker's state, shared by the tasks on its thread.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) plan: Arc<Plan>,
    pub(crate) flags: Arc<Flags>,
    pub(crate) stats: Arc<WorkerStats>,
    pub(crate) ids: RequestIds,
    table: RefCell<Cache<Arc<ArcSwap<FlagTable>>, Arc<FlagTable>>>,
    balancers: Vec<Rc<Balancer>>,
}

/// The client at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its address without the port, ready for `X-Forwarded-For`.
    pub(crate) address: HeaderValue,
}

/// What a worker is started with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) listener: StdListener,
    pub(crate) plan: Arc<Plan>,
    pub(crate) flags: Arc<Flags>,
    pub(crate) stats: Arc<WorkerStats>,
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
    fn new(start: &Start) -> Self {
        let Start { plan, flags, stats, .. } = start;
        let balancer = |upstream: &crate::plan::Upstream| {
            Rc::new(Balancer::new(&upstream.shared, &upstream.policy, plan.limits.connect))
        };
        Self {
            balancers: plan.upstreams.iter().map(balancer).collect(),
            plan: Arc::clone(plan),
            table: RefCell::new(Cache::new(flags.table())),
            flags: Arc::clone(flags),
            stats: Arc::clone(stats),
            ids: RequestIds::new(),
        }
    }

    pub(crate) fn balancer(&self, upstream: UpstreamId) -> Option<&Rc<Balancer>> {
        self.balancers.get(upstream.0)
    }

    /// Looks at a context's flag in the newest snapshot.
    pub(crate) fn with_flag<T>(&self, context: ContextId, look: impl FnOnce(Option<&Flag>) -> T) -> T {
        look(self.table.borrow_mut().load().get(context))
    }
}

/// Runs a worker on this thread until it is told to end.
pub(crate) fn run(start: Start) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async move {
        let worker = Rc::new(Worker::new(&start));
        let Start { listener, signals: Signals { drain, mut end }, .. } = start;
        let listener = TcpListener::from_std(listener)?;
        tokio::task::spawn_local(sweep(Rc::clone(&worker)));
        tokio::task::spawn_local(accept(worker, listener, drain));
        // An error means that the one who would tell is gone: reason enough to end.
        let _ = end.wait_for(|end| *end).await;
        Ok(())
    })
}

async fn sweep(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        worker.balancers.iter().for_each(|balancer| balancer.sweep());
    }
}

async fn accept(worker: Rc<Worker>, listener: TcpListener, mut drain: watch::Receiver<bool>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(worker.plan.limits.client_header);
    let http = Rc::new(http);
    let of_connections = drain.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    worker.stats.connected();
                    tokio::task::spawn_local(serve(Rc::clone(&worker), Rc::clone(&http), stream, address, of_connections.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = drain.wait_for(|drain| *drain) => return,
        }
    }
}

async fn serve(
    worker: Rc<Worker>,
    http: Rc<http1::Builder>,
    stream: TcpStream,
    address: SocketAddr,
    mut drain: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        return tracing::debug!(%error, "a connection closed at once");
    }
    let text = address.ip().to_canonical().to_string();
    let Ok(address) = HeaderValue::from_str(&text) else { return };
    let client = Rc::new(Client { address });
    let service = service_fn(|request| {
        let (worker, client) = (Rc::clone(&worker), Rc::clone(&client));
        async move { Ok::<_, Infallible>(phases::answer(worker, client, request).await) }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let probe = drain.clone();
    let mut draining = pin!(drain.wait_for(|drain| *drain));
    let mut is_waiting = false;
    // Once it waits, the drain is only asked again when it has begun: asking takes a lock that all workers share.
    let ended = poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(ended));
        }
        if is_waiting && matches!(probe.has_changed(), Ok(false)) {
            return Poll::Pending;
        }
        is_waiting = true;
        draining.as_mut().poll(cx).map(|_| None)
    })
    .await;
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended: {error}");
    }
}
