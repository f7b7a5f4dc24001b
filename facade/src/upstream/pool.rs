//! A worker's own connections to one instance of an upstream.
//!
//! Invariant: a connection serves one exchange at a time and belongs to one thread, so that no lock is needed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::upstream::connection::Connection;
use crate::upstream::instance::{Cells, Instance, add};
use crate::upstream::shared::Place;

/// Idle connections that one worker keeps per instance.
const MOST_IDLE: usize = 512;
/// Sweeps that an idle connection outlives; with one sweep in ten seconds, a minute.
const IDLE_SWEEPS: u32 = 6;

/// Why no connection could be made.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// Refused or unreachable.
    Failed(io::Error),
    /// Nobody answered in time.
    TimedOut,
}

/// Connections to one instance.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) instance: Arc<Instance>,
    pub(crate) cells: Arc<Cells>,
    connect_timeout: Cell<Duration>,
    /// Whether a connection that was used may be used again.
    keeps: Cell<bool>,
    idle: RefCell<VecDeque<Idle>>,
    sweep: Cell<u32>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: u32,
}

/// A connection taken out of a pool; dropping it closes it.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) connection: Connection,
    flight: Flight,
    /// Kept for its drop.
    _place: Place,
}

/// An exchange under way, counted until this is dropped.
#[derive(Debug)]
struct Flight(Rc<Pool>);

impl Flight {
    fn begin(pool: &Rc<Pool>) -> Self {
        add(&pool.cells.begun);
        Self(Rc::clone(pool))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        add(&self.0.cells.ended);
    }
}

impl Pool {
    pub(crate) fn new(instance: Arc<Instance>, connect_timeout: Duration) -> Rc<Self> {
        let cells = instance.cells();
        Rc::new(Self {
            instance,
            cells,
            connect_timeout: Cell::new(connect_timeout),
            keeps: Cell::new(true),
            idle: RefCell::default(),
            sweep: Cell::new(0),
        })
    }

    /// A connection that waits for a request, the one used last first.
    pub(crate) fn take_idle(self: &Rc<Self>, place: &mut Place) -> Option<Lease> {
        let mut idle = self.idle.borrow_mut();
        let mut position = idle.len();
        while let Some(before) = position.checked_sub(1) {
            position = before;
            let found = idle.get_mut(position)?;
            let is_quiet = found.connection.is_quiet();
            let Idle { connection, .. } = idle.remove(position)?;
            if is_quiet {
                self.count_idle(idle.len());
                return Some(Lease { connection, flight: Flight::begin(self), _place: place.take() });
            }
        }
        None
    }

    pub(crate) async fn connect(self: &Rc<Self>, place: &mut Place) -> Result<Lease, ConnectError> {
        let flight = Flight::begin(self);
        let stream =
            match timeout(self.connect_timeout.get(), TcpStream::connect(self.instance.address)).await {
                Ok(connected) => connected.map_err(ConnectError::Failed)?,
                Err(_) => return Err(ConnectError::TimedOut),
            };
        stream.set_nodelay(true).map_err(ConnectError::Failed)?;
        add(&self.cells.connections);
        Ok(Lease { connection: Connection::new(stream), flight, _place: place.take() })
    }

    /// Serves on under other settings.
    pub(crate) fn resume(&self, connect_timeout: Duration) {
        self.connect_timeout.set(connect_timeout);
        self.keeps.set(true);
    }

    /// Closes what is idle, and what is in use once its exchange has ended.
    pub(crate) fn retire(&self) {
        self.keeps.set(false);
        self.idle.take();
        self.count_idle(0);
    }

    /// Lets go of what is closed or has been idle for long.
    pub(crate) fn sweep(&self) {
        let now = self.sweep.get().wrapping_add(1);
        self.sweep.set(now);
        let mut idle = self.idle.borrow_mut();
        idle.retain_mut(|idle| idle.connection.is_quiet() && now.wrapping_sub(idle.since) < IDLE_SWEEPS);
        self.count_idle(idle.len());
    }

    /// Exchanges of this worker under way.
    pub(crate) fn in_flight(&self) -> u64 {
        self.cells.begun.load(Relaxed).wrapping_sub(self.cells.ended.load(Relaxed))
    }

    fn count_idle(&self, idle: usize) {
        self.cells.idle.store(u64::try_from(idle).unwrap_or(u64::MAX), Relaxed);
    }
}

impl Lease {
    /// The connection goes on as another protocol's; the exchange counts as ended.
    pub(crate) fn into_connection(self) -> Connection {
        self.connection
    }

    /// Returns the connection after an answer that was read to its end.
    pub(crate) fn give_back(self) {
        let Self { mut connection, flight, .. } = self;
        let pool = &flight.0;
        let mut idle = pool.idle.borrow_mut();
        if pool.keeps.get() && connection.is_reusable() && idle.len() < MOST_IDLE {
            connection.rest();
            idle.push_back(Idle { connection, since: pool.sweep.get() });
            pool.count_idle(idle.len());
        }
    }
}
