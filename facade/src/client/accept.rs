//! Takes connections in, as many as may be open, and has each served by a task of its own.
//!
//! Beyond the limit a connection is answered with 503 and closed, rather than left waiting in the system's queue: a
//! client that is told can go elsewhere, and a health check that is not answered tells nothing.
//!
//! Invariant: whatever is wrong with one connection, the next one is accepted.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::client::plan::ClientPlan;
use crate::client::serve::{self, LocalExecutor};
use crate::client::stats::count;
use crate::client::traffic::Traffic;
use crate::client::watch::Watch;
use crate::client::{Client, Scheme, refuse};
use crate::current::Current;
use crate::protect::forwarded::Hop;
use crate::worker::Worker;

/// Pause after an accept that failed for want of descriptors or memory, so that it does not fail in a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// What hyper reads a head or a piece of a body into grows to this size at least.
const SMALLEST_BUFFER: usize = 64 * 1024;
/// Headers that hyper has room for without asking for memory.
const COMMON_HEADERS: usize = 100;

/// What a worker's connections have in common.
pub(crate) struct Reception {
    /// As it was at the start: what is said of connections holds until a restart.
    pub(crate) worker: Rc<Worker>,
    /// Where each request takes the worker from.
    pub(crate) workers: Rc<Current>,
    pub(crate) http1: http1::Builder,
    pub(crate) http2: http2::Builder<LocalExecutor>,
    /// Every connection holds a clone while it lives.
    pub(crate) drain: watch::Receiver<bool>,
    pub(crate) watch: Rc<Watch>,
}

impl Reception {
    pub(crate) fn new(workers: Rc<Current>, drain: watch::Receiver<bool>) -> Rc<Self> {
        let worker = workers.get();
        let plan = &worker.plan.clients;
        let watch = Watch::new(plan, &worker.clients);
        tokio::task::spawn_local(Rc::clone(&watch).run(drain.clone()));
        let (http1, http2) = (http1(plan), http2(plan));
        Rc::new(Self { worker, workers, http1, http2, drain, watch })
    }

    pub(crate) fn plan(&self) -> &ClientPlan {
        &self.worker.plan.clients
    }

    /// Accepts until the facade drains.
    pub(crate) async fn accept(self: Rc<Self>, listener: TcpListener, scheme: Scheme) {
        let mut drain = self.drain.clone();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.take(stream, peer, scheme),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = drain.wait_for(|drain| *drain) => break,
            }
        }
        // Closing the socket would reset those who wait in its queue.
        while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
            self.take(stream, peer, scheme);
        }
    }

    fn take(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, scheme: Scheme) {
        let open = self.worker.stats.connected();
        let stats = &self.worker.clients;
        let Some(slot) = stats.enter(self.plan().connections) else {
            count(&stats.turned_away);
            if let Some(refusing) = stats.refuse().filter(|_| scheme == Scheme::Http) {
                tokio::task::spawn_local(refuse::full(stream, refusing, self.drain.clone()));
            }
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            return tracing::debug!(%error, "a connection closed at once");
        }
        let port = stream.local_addr().map_or(0, |own| own.port());
        let hop = Hop::new(&self.worker.plan.forwarded, peer.ip(), scheme.word(), port);
        let traffic = Arc::new(Traffic::new());
        self.watch.enter(&traffic);
        let client = Rc::new(Client { hop, scheme, door: Arc::default(), traffic, _slot: slot, _open: open });
        tokio::task::spawn_local(serve::serve(Rc::clone(self), client, stream, self.drain.clone()));
    }
}

/// A listener for this worker, of a socket that all workers share.
pub(crate) fn listener(listener: Option<StdListener>) -> std::io::Result<Option<TcpListener>> {
    listener.map(TcpListener::from_std).transpose()
}

/// Its limits are wider than ours where that is free, so that it is we who refuse, with a document.
fn http1(plan: &ClientPlan) -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1.max_buf_size(SMALLEST_BUFFER.max(2 * plan.header_bytes)).half_close(false);
    if plan.header_count > COMMON_HEADERS {
        http1.max_headers(plan.header_count + 1);
    }
    http1
}

fn http2(plan: &ClientPlan) -> http2::Builder<LocalExecutor> {
    let mut http2 = http2::Builder::new(LocalExecutor);
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(plan.http2.streams)
        .enable_connect_protocol()
        .max_header_list_size(u32::try_from(plan.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(plan.http2.cancelled_streams)
        .keep_alive_interval(plan.http2.ping)
        .keep_alive_timeout(plan.http2.ping_timeout);
    http2
}
