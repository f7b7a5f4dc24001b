//! What passes on one connection, as far as patience depends on it, and the order to end it.
//!
//! Invariant: only the connection's own thread writes here. The fields are atomic all the same, because a stream that
//! may be upgraded must be allowed to move to another thread; relaxed, they cost no more than plain ones.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// What a connection is told to do; the greater wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Go on.
    None,
    /// Nothing has come for a while: wait for the next request in little memory.
    Rest,
    /// End after what is under way.
    Drain,
    /// The head of a request takes too long: say so and end.
    TooSlow,
    /// Nothing is under way: end.
    Close,
    /// End, whatever is under way.
    Cut,
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// Changes whenever patience begins anew.
    epoch: AtomicU32,
    requests: AtomicU32,
    in_flight: AtomicU32,
    /// Bytes have come that belong to no request yet.
    reading: AtomicBool,
    /// What is to be sent waits for the client.
    blocked: AtomicBool,
    /// Bytes that come need not belong to a request's head.
    multiplexed: AtomicBool,
    /// It is a tunnel by now, which has a patience of its own.
    upgraded: AtomicBool,
    order: AtomicU8,
    task: AtomicWaker,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self {
            epoch: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            reading: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            multiplexed: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            order: AtomicU8::new(Order::None as u8),
            task: AtomicWaker::new(),
        }
    }

    /// From now on it speaks HTTP/2.
    pub(crate) fn is_multiplexed(&self) {
        self.multiplexed.store(true, Relaxed);
    }

    /// From now on it is a tunnel.
    pub(crate) fn upgrade(&self) {
        self.upgraded.store(true, Relaxed);
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Relaxed)
    }

    /// Whether its answers share it.
    pub(crate) fn shares(&self) -> bool {
        self.multiplexed.load(Relaxed)
    }

    pub(crate) fn arrived(&self) {
        if self.in_flight.load(Relaxed) == 0 && !self.reading.load(Relaxed) && !self.multiplexed.load(Relaxed)
        {
            self.reading.store(true, Relaxed);
            self.turn();
        }
    }

    /// Whether the last attempt to write had to wait.
    pub(crate) fn wrote<T>(&self, polled: &Poll<T>) {
        let waits = polled.is_pending();
        if self.blocked.load(Relaxed) != waits {
            self.blocked.store(waits, Relaxed);
            self.turn();
        }
    }

    /// Something is under way that is no request, or no longer: a tunnel, or a body whose request was answered early.
    pub(crate) fn hold(&self) {
        self.reading.store(false, Relaxed);
        self.in_flight.store(self.in_flight.load(Relaxed).wrapping_add(1), Relaxed);
        self.turn();
    }

    /// A request begins; its number on this connection, from 1.
    pub(crate) fn begin(&self) -> u32 {
        self.hold();
        let number = self.requests.load(Relaxed).saturating_add(1);
        self.requests.store(number, Relaxed);
        number
    }

    pub(crate) fn end(&self) {
        self.in_flight.store(self.in_flight.load(Relaxed).saturating_sub(1), Relaxed);
        self.turn();
    }

    fn turn(&self) {
        self.epoch.store(self.epoch.load(Relaxed).wrapping_add(1), Relaxed);
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Relaxed)
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    pub(crate) fn is_reading(&self) -> bool {
        self.reading.load(Relaxed)
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    /// No request has come yet.
    pub(crate) fn is_new(&self) -> bool {
        self.requests.load(Relaxed) == 0
    }

    /// Gives an order, unless a greater one was given.
    pub(crate) fn tell(&self, order: Order) {
        if order > self.order() {
            self.order.store(order as u8, Relaxed);
            self.task.wake();
        }
    }

    /// The rest is over.
    pub(crate) fn wake_up(&self) {
        if self.order() == Order::Rest {
            self.order.store(Order::None as u8, Relaxed);
        }
    }

    pub(crate) fn order(&self) -> Order {
        match self.order.load(Relaxed) {
            0 => Order::None,
            1 => Order::Rest,
            2 => Order::Drain,
            3 => Order::TooSlow,
            4 => Order::Close,
            _ => Order::Cut,
        }
    }

    /// Whose task an order wakes.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
    }
}
