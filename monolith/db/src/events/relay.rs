//! The relay: takes rows out of the outbox and has the bus deliver them.
//!
//! Invariant: a row is one relay's at a time, for as long as its lease is renewed; what became of it is written down only
//! by the relay that still has it. A relay that dies loses nothing: its rows become free when the lease ends, and what it
//! had delivered already has no second effect.

mod claims;
mod lane;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contracts::Clock;
use contracts::events::EventBus;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::Db;
use crate::fail_point::FailPoints;
use crate::wake::Work;
use lane::Lane;

/// How a relay works.
#[derive(Debug, Clone, Copy)]
pub struct RelaySettings {
    /// Rows claimed at once, per consumer. What a relay has claimed when it dies waits for the end of its lease.
    pub batch: u32,
    /// Deliveries at once, per consumer: one consumer that hangs does not hold up the others. All consumers' together
    /// should leave some of the database's connections to others.
    pub concurrency: usize,
    /// How often the outbox is looked at without being woken: other processes write events, too.
    pub poll: Duration,
    /// How long rows stay claimed by a relay that died. Far above what the clocks of two machines differ by.
    pub lease: Duration,
    /// How long one delivery may take.
    pub deadline: Duration,
    /// Pause after the first failure, at most; doubles with each one.
    pub backoff_min: Duration,
    /// Longest pause between two attempts.
    pub backoff_max: Duration,
    /// Failures after which an event is given up.
    pub max_attempts: u32,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            batch: 200,
            concurrency: 4,
            poll: Duration::from_millis(500),
            lease: Duration::from_secs(30),
            deadline: Duration::from_secs(5),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(60),
            max_attempts: 12,
        }
    }
}

/// What a relay has done for one consumer since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayStats {
    /// The consumer.
    pub consumer: &'static str,
    /// Events that it took.
    pub delivered: u64,
    /// Attempts that failed and will be repeated.
    pub failed: u64,
    /// Events that were given up.
    pub dead: u64,
}

/// Starts relays.
#[derive(Debug)]
pub struct Relay;

impl Relay {
    /// Starts a relay for these consumers on the present runtime; rows of others are left to other processes.
    pub fn spawn(
        db: Db,
        bus: Arc<dyn EventBus>,
        consumers: &[&'static str],
        clock: Arc<dyn Clock>,
        settings: RelaySettings,
    ) -> RelayHandle {
        let claimant = format!("{}-{}", std::process::id(), Uuid::new_v4().simple());
        let fail_points = Arc::new(FailPoints::from_env());
        let (stop, stopping) = watch::channel(false);
        let (mut lanes, mut counts) = (JoinSet::new(), Vec::new());
        for consumer in consumers {
            let counted = Arc::new(Counts::default());
            counts.push((*consumer, Arc::clone(&counted)));
            let lane = Lane {
                wake: db.wakes().subscribe(Work::Events),
                db: db.clone(),
                bus: Arc::clone(&bus),
                clock: Arc::clone(&clock),
                settings,
                consumer,
                claimant: claimant.clone(),
                fail_points: Arc::clone(&fail_points),
                counts: counted,
                stopping: stopping.clone(),
                after: String::new(),
            };
            lanes.spawn(lane.run());
        }
        RelayHandle { lanes, stop, counts: counts.into() }
    }
}

/// A running relay; dropped, it ends as if its process had died.
pub struct RelayHandle {
    lanes: JoinSet<()>,
    stop: watch::Sender<bool>,
    counts: Arc<[(&'static str, Arc<Counts>)]>,
}

impl RelayHandle {
    /// Finishes the deliveries under way, gives the other rows back, and ends.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.lanes.join_next().await.is_some() {}
    }

    /// Figures per consumer.
    pub fn stats(&self) -> Vec<RelayStats> {
        self.reader()()
    }

    /// Reads the figures for as long as somebody wants them, also after the relay has ended.
    pub fn reader(&self) -> impl Fn() -> Vec<RelayStats> + Send + Sync + use<> {
        let counts = Arc::clone(&self.counts);
        let stats = |(consumer, counts): &(&'static str, Arc<Counts>)| RelayStats {
            consumer,
            delivered: counts.delivered.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            dead: counts.dead.load(Ordering::Relaxed),
        };
        move || counts.iter().map(stats).collect()
    }
}

#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
    dead: AtomicU64,
}
