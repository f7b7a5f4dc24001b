//! A worker's own connections to one upstream.
//!
//! Invariant: a connection serves one exchange at a time and belongs to one thread, so that no lock is needed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use http::uri::Authority;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::body::RequestBody;
use crate::strict;

/// Idle connections that one worker keeps per upstream.
const MOST_IDLE: usize = 512;
/// Sweeps that an idle connection outlives; with one sweep in ten seconds, a minute.
const IDLE_SWEEPS: u32 = 6;

/// Why no connection could be made.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// Refused, unreachable, or an unknown name.
    Failed(io::Error),
    /// Nobody answered in time.
    TimedOut,
}

/// Connections to one upstream.
#[derive(Debug)]
pub(crate) struct Pool {
    authority: Authority,
    connect_timeout: Duration,
    idle: RefCell<VecDeque<Idle>>,
    sweep: Cell<u32>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RequestBody>,
    since: u32,
}

/// A connection taken out of a pool; dropping it closes it.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) sender: SendRequest<RequestBody>,
    pool: Rc<Pool>,
}

impl Pool {
    pub(crate) fn new(authority: Authority, connect_timeout: Duration) -> Rc<Self> {
        Rc::new(Self { authority, connect_timeout, idle: RefCell::default(), sweep: Cell::new(0) })
    }

    /// A connection that waits for a request, the one used last first.
    pub(crate) fn take_idle(self: &Rc<Self>) -> Option<Lease> {
        let mut idle = self.idle.borrow_mut();
        let mut position = idle.len();
        while let Some(before) = position.checked_sub(1) {
            position = before;
            let found = idle.get(position)?;
            if found.sender.is_closed() {
                idle.remove(position);
            } else if found.sender.is_ready() {
                let sender = idle.remove(position)?.sender;
                return Some(Lease { sender, pool: Rc::clone(self) });
            }
            // One that is neither has just been given back: its task has yet to run.
        }
        None
    }

    pub(crate) async fn connect(self: &Rc<Self>) -> Result<Lease, ConnectError> {
        let stream = match timeout(self.connect_timeout, TcpStream::connect(self.authority.as_str())).await {
            Ok(connected) => connected.map_err(ConnectError::Failed)?,
            Err(_) => return Err(ConnectError::TimedOut),
        };
        stream.set_nodelay(true).map_err(ConnectError::Failed)?;
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(strict::Interim::new(stream)))
            .await
            .map_err(|error| ConnectError::Failed(io::Error::other(error)))?;
        tokio::task::spawn_local(async move {
            // Its failure reaches the exchange that it serves; an idle one simply closes.
            let _ = connection.with_upgrades().await;
        });
        Ok(Lease { sender, pool: Rc::clone(self) })
    }

    /// Lets go of what is closed or has been idle for long.
    pub(crate) fn sweep(&self) {
        let now = self.sweep.get().wrapping_add(1);
        self.sweep.set(now);
        self.idle
            .borrow_mut()
            .retain(|idle| !idle.sender.is_closed() && now.wrapping_sub(idle.since) < IDLE_SWEEPS);
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }
}

impl Lease {
    /// Returns the connection after an answer that was read to its end.
    pub(crate) fn give_back(self) {
        let Self { sender, pool, .. } = self;
        let mut idle = pool.idle.borrow_mut();
        if !sender.is_closed() && idle.len() < MOST_IDLE {
            idle.push_back(Idle { sender, since: pool.sweep.get() });
        }
    }
}
