//! The cells of one worker.
//!
//! Invariant: only the worker's own thread writes them; whoever reads them meanwhile sees each of them whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use control::Side;

use crate::overrides::OverrideStats;
use crate::plan::{ContextId, Plan};
use crate::protect::stats::ProtectStats;

/// Upper bounds of the latency buckets, in microseconds.
pub(super) const BOUNDS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000, 30_000_000,
];
pub(super) const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "aborted"];
/// Safe methods (RFC 9110 §9.2.1), and all others.
pub(super) const KINDS: [&str; 2] = ["read", "write"];

/// A counter that one thread writes, and any may read.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one worker counts.
#[derive(Debug)]
pub(crate) struct WorkerStats {
    /// Two per context, and two for requests of no context.
    pub(super) sides: Vec<SideCells>,
    pub(super) contexts: Vec<ContextCells>,
    /// Requests whose side is not decided yet.
    pub(super) undecided: FlightCells,
    pub(super) connections: FlightCells,
    pub(super) unlogged: Cell,
    pub(crate) overrides: OverrideStats,
    pub(crate) protect: ProtectStats,
    /// Every request.
    all: FlightCells,
}

/// Of what begins and ends. On lines of its own in the cache, so that no other worker's cells lie beside it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct FlightCells {
    pub(super) begun: Cell,
    pub(super) ended: Cell,
}

#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct SideCells {
    pub(super) requests: [[Cell; CLASSES.len()]; KINDS.len()],
    pub(super) buckets: [Cell; BOUNDS_US.len()],
    pub(super) sum_us: Cell,
    pub(super) flight: FlightCells,
    pub(super) received: Cell,
    pub(super) sent: Cell,
}

#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct ContextCells {
    pub(super) fallbacks: Cell,
    pub(super) held: Cell,
    pub(super) held_us: Cell,
}

/// How an exchange ended, as the cells see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) context: Option<ContextId>,
    pub(crate) side: Side,
    /// Whether the method is safe.
    pub(crate) is_read: bool,
    /// None: the client went away before there was an answer.
    pub(crate) status: Option<u16>,
    pub(crate) took: Duration,
    /// Bytes of the request's body.
    pub(crate) received: u64,
    /// Bytes of the answer's body.
    pub(crate) sent: u64,
}

/// Where a request counts as under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flight(Option<usize>);

/// A client's connection; it counts as open until this is dropped.
#[derive(Debug)]
#[must_use = "the connection counts as closed once this is dropped"]
pub(crate) struct OpenConnection(Arc<WorkerStats>);

impl WorkerStats {
    pub(crate) fn new(plan: &Plan) -> Arc<Self> {
        let contexts = plan.context_room;
        Arc::new(Self {
            sides: (0..2 * (contexts + 1)).map(|_| SideCells::default()).collect(),
            contexts: (0..contexts).map(|_| ContextCells::default()).collect(),
            undecided: FlightCells::default(),
            connections: FlightCells::default(),
            unlogged: Cell::default(),
            overrides: OverrideStats::default(),
            protect: ProtectStats::default(),
            all: FlightCells::default(),
        })
    }

    /// Counts a connection from now until what this returns is dropped.
    pub(crate) fn connected(self: &Arc<Self>) -> OpenConnection {
        self.connections.begun.add(1);
        OpenConnection(Arc::clone(self))
    }

    pub(crate) fn begin(&self) -> Flight {
        self.all.begun.add(1);
        self.undecided.begun.add(1);
        Flight(None)
    }

    /// Requests of this worker that have begun and not ended.
    pub(crate) fn in_flight(&self) -> u64 {
        self.all.begun.get().saturating_sub(self.all.ended.get())
    }

    /// From now on the request is under way at that side.
    pub(crate) fn decided(&self, flight: &mut Flight, context: Option<ContextId>, side: Side) {
        self.land(*flight);
        let place = place(context, side);
        if let Some(cells) = self.sides.get(place) {
            cells.flight.begun.add(1);
        }
        *flight = Flight(Some(place));
    }

    fn land(&self, flight: Flight) {
        match flight.0 {
            None => self.undecided.ended.add(1),
            Some(place) => {
                if let Some(cells) = self.sides.get(place) {
                    cells.flight.ended.add(1);
                }
            }
        }
    }

    pub(crate) fn end(&self, flight: Flight, outcome: &Outcome) {
        self.all.ended.add(1);
        self.land(flight);
        let Some(side) = self.sides.get(place(outcome.context, outcome.side)) else { return };
        let class =
            outcome.status.map_or(CLASSES.len() - 1, |status| usize::from(status / 100).saturating_sub(1));
        let kinds = side.requests.get(usize::from(!outcome.is_read));
        if let Some(cell) = kinds.and_then(|classes| classes.get(class)) {
            cell.add(1);
        }
        let us = micros(outcome.took);
        side.sum_us.add(us);
        let bucket = BOUNDS_US.iter().position(|bound| us <= *bound);
        if let Some(cell) = bucket.and_then(|bucket| side.buckets.get(bucket)) {
            cell.add(1);
        }
        side.sent.add(outcome.sent);
        if outcome.received > 0 {
            side.received.add(outcome.received);
        }
    }

    pub(crate) fn fell_back(&self, context: ContextId) {
        if let Some(cells) = self.contexts.get(context.0) {
            cells.fallbacks.add(1);
        }
    }

    pub(crate) fn held(&self, context: ContextId, waited: Duration) {
        if let Some(cells) = self.contexts.get(context.0) {
            cells.held.add(1);
            cells.held_us.add(micros(waited));
        }
    }

    /// A line of the access log found no room in the queue.
    pub(crate) fn unlogged(&self) {
        self.unlogged.add(1);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.ended.add(1);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Where the cells of a side lie.
pub(crate) fn place(context: Option<ContextId>, side: Side) -> usize {
    let context = context.map_or(0, |context| context.0 + 1);
    2 * context + usize::from(side == Side::Service)
}
