//! Looks through a worker's connections now and then, and ends those that take too long.
//!
//! One look at all of them in place of a timer for each: a request sets no timer, and ten thousand idle connections
//! cost one short walk per second. Where many connections come or wake up at once there is another look after every so
//! many of them, so that buffers are held by a bounded number of idle connections, however fast they come.
//!
//! Invariant: a connection outlives its patience by one look at most.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::client::plan::ClientPlan;
use crate::client::stats::{ClientStats, count};
use crate::client::stream::Stream;
use crate::client::traffic::{Order, Traffic};

/// While the facade drains: a connection that was in use so recently may have a request on its way already, and
/// closing would reset it.
const RECENT: Duration = Duration::from_secs(1);
/// The same for one on which no request has come at all yet.
const NEW: Duration = Duration::from_secs(2);
/// When a connection that waits for its next request lets go of its buffers.
const REST: Duration = Duration::from_secs(1);
/// After so many connections that took buffers comes a look at once, and those rest that were idle at the look before,
/// too. Many enough that a look, which walks over all connections, costs each of them little.
const MANY: u32 = 1024;
/// How long a connection may take to end once told.
const LAST_WORDS: Duration = Duration::from_secs(5);
const SHORTEST_TICK: Duration = Duration::from_millis(5);
const LONGEST_TICK: Duration = Duration::from_secs(1);
const DRAINING_TICK: Duration = Duration::from_millis(20);

/// The connections of one worker.
#[derive(Debug)]
pub(crate) struct Watch {
    entries: RefCell<Vec<Entry>>,
    streams: RefCell<Vec<StreamEntry>>,
    /// Connections that took buffers since the last look that came of it.
    woken: Cell<u32>,
    are_many: Notify,
    stats: Arc<ClientStats>,
    head: Duration,
    keep_alive: Duration,
    stall: Duration,
}

#[derive(Debug)]
struct Entry {
    traffic: Arc<Traffic>,
    epoch: u32,
    /// When this epoch was first seen.
    since: Instant,
    /// When it was told to close.
    told: Option<Instant>,
}

/// An answer that shares its connection.
#[derive(Debug)]
struct StreamEntry {
    stream: Weak<Stream>,
    epoch: u32,
    since: Instant,
}

impl Watch {
    pub(crate) fn new(plan: &ClientPlan, stats: &Arc<ClientStats>) -> Rc<Self> {
        Rc::new(Self {
            entries: RefCell::default(),
            streams: RefCell::default(),
            woken: Cell::new(0),
            are_many: Notify::new(),
            stats: Arc::clone(stats),
            head: plan.head,
            keep_alive: plan.keep_alive,
            stall: plan.stall,
        })
    }

    /// From now on this connection is looked at.
    pub(crate) fn enter(&self, traffic: &Arc<Traffic>) {
        let entry =
            Entry { traffic: Arc::clone(traffic), epoch: traffic.epoch(), since: Instant::now(), told: None };
        self.entries.borrow_mut().push(entry);
    }

    /// A connection takes buffers.
    pub(crate) fn wakes_up(&self) {
        self.woken.set(self.woken.get() + 1);
        if self.woken.get() >= MANY {
            self.woken.set(0);
            self.are_many.notify_one();
        }
    }

    /// From now on this answer is looked at.
    pub(crate) fn enter_stream(&self, stream: &Rc<Stream>) {
        let entry = StreamEntry { stream: Rc::downgrade(stream), epoch: 0, since: Instant::now() };
        self.streams.borrow_mut().push(entry);
    }

    /// Looks until the worker ends.
    pub(crate) async fn run(self: Rc<Self>, mut drain: watch::Receiver<bool>) {
        let shortest = self.head.min(self.keep_alive).min(self.stall);
        let tick = (shortest / 4).clamp(SHORTEST_TICK, LONGEST_TICK);
        loop {
            tokio::select! {
                () = tokio::time::sleep(tick) => self.look(Entry::judge),
                () = self.are_many.notified() => self.look(Entry::judge_among_many),
                _ = drain.wait_for(|drain| *drain) => break,
            }
        }
        // Not held any longer: whoever stops the facade waits until all receivers are gone.
        drop(drain);
        loop {
            self.look(Entry::judge_draining);
            tokio::time::sleep(DRAINING_TICK).await;
        }
    }

    fn look(&self, judge: impl Fn(&mut Entry, &Self, Instant) -> Order) {
        let now = Instant::now();
        self.look_at_streams(now);
        self.entries.borrow_mut().retain_mut(|entry| {
            // The connection holds it as well, as long as there is one.
            if Arc::strong_count(&entry.traffic) == 1 || entry.traffic.is_upgraded() {
                return false;
            }
            entry.notice(now);
            let order = judge(entry, self, now);
            if order > Order::Drain {
                entry.told.get_or_insert(now);
            }
            entry.traffic.tell(order);
            true
        });
    }
}

impl Watch {
    fn look_at_streams(&self, now: Instant) {
        self.streams.borrow_mut().retain_mut(|entry| {
            let Some(stream) = entry.stream.upgrade() else { return false };
            if stream.epoch() != entry.epoch {
                (entry.epoch, entry.since) = (stream.epoch(), now);
            }
            let is_stalled = stream.is_unread() && now - entry.since >= self.stall;
            if is_stalled {
                count(&self.stats.stalled);
                stream.take_away();
            }
            !is_stalled
        });
    }
}

impl Entry {
    fn notice(&mut self, now: Instant) {
        let epoch = self.traffic.epoch();
        if epoch != self.epoch {
            (self.epoch, self.since, self.told) = (epoch, now, None);
        }
    }

    fn judge(&mut self, watch: &Watch, now: Instant) -> Order {
        if let Some(told) = self.told {
            return if now - told >= LAST_WORDS { Order::Cut } else { Order::None };
        }
        let quiet = now - self.since;
        if self.traffic.is_blocked() {
            return over(quiet, watch.stall, Order::Cut, &watch.stats.stalled);
        }
        if self.traffic.in_flight() > 0 {
            return Order::None;
        }
        if self.traffic.is_reading() {
            return over(quiet, watch.head, Order::TooSlow, &watch.stats.slow_head);
        }
        if self.traffic.is_new() {
            return over(quiet, watch.head, Order::Close, &watch.stats.slow_head);
        }
        match over(quiet, watch.keep_alive, Order::Close, &watch.stats.idle) {
            Order::None if quiet >= REST => Order::Rest,
            order => order,
        }
    }

    fn judge_among_many(&mut self, watch: &Watch, now: Instant) -> Order {
        let is_idle = self.traffic.in_flight() == 0 && !self.traffic.is_reading();
        match self.judge(watch, now) {
            // Nothing has come since an earlier look.
            Order::None
                if is_idle
                    && !self.traffic.is_blocked()
                    && !self.traffic.is_new()
                    && self.told.is_none()
                    && self.since < now =>
            {
                Order::Rest
            }
            order => order,
        }
    }

    fn judge_draining(&mut self, watch: &Watch, now: Instant) -> Order {
        let patience = if self.traffic.is_new() { NEW } else { RECENT };
        let is_idle = self.traffic.in_flight() == 0 && !self.traffic.is_reading();
        match self.judge(watch, now) {
            Order::None | Order::Rest if is_idle && self.told.is_none() && now - self.since >= patience => {
                Order::Close
            }
            Order::None | Order::Rest => Order::Drain,
            order => order,
        }
    }
}

fn over(quiet: Duration, limit: Duration, order: Order, counter: &AtomicU64) -> Order {
    if quiet < limit {
        return Order::None;
    }
    count(counter);
    order
}
