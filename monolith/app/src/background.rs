//! Work that no request waits for: events are delivered, checkouts brought to their end, leftovers swept up.
//!
//! Invariant: whatever dies here is taken up again, by this process or another; nothing is done by one process alone.

use std::sync::Arc;
use std::time::Duration;

use contracts::inventory::Inventory;
use contracts::{CallContext, Clock, SystemClock, Timestamp};
use db::events::{InProcessBus, Outbox, Relay, RelayHandle, RelaySettings, RelayStats};
use db::saga::{ErasedSaga, SagaHandle, SagaRunner, SagaSettings};
use db::{Db, DbError};
use orders::Checkout;
use platform::error::chain;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::settings::BackgroundSettings;

/// How often leftovers are swept up.
const SWEEP: Duration = Duration::from_secs(10);
/// Reservations released at once.
const EXPIRE_AT_ONCE: u32 = 200;
/// How long a consumer remembers an event: far longer than any event is delivered again.
const INBOX_DAYS: u32 = 7;
/// How long the log of a checkout that has ended is kept.
const SAGA_DAYS: u32 = 30;
const HOUR_MS: i64 = 60 * 60 * 1000;

/// The work, for as long as it is kept.
pub struct Background {
    relay: RelayHandle,
    sagas: SagaHandle,
    sweeper: JoinHandle<()>,
}

impl Background {
    /// Starts the work on the present runtime.
    pub fn start(
        db: &Db,
        settings: &BackgroundSettings,
        bus: InProcessBus,
        outbox: &Outbox,
        checkout: Checkout,
        inventory: Arc<dyn Inventory>,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (poll, lease) =
            (Duration::from_millis(settings.poll_ms), Duration::from_millis(settings.lease_ms));
        let relay = Relay::spawn(
            db.clone(),
            Arc::new(bus),
            &outbox.consumers(),
            Arc::clone(&clock),
            RelaySettings { poll, lease, max_attempts: settings.event_attempts, ..RelaySettings::default() },
        );
        let sagas = SagaRunner::spawn(
            db.clone(),
            vec![Arc::new(checkout) as Arc<dyn ErasedSaga>],
            clock,
            SagaSettings { poll, lease, max_attempts: settings.step_attempts, ..SagaSettings::default() },
        );
        let sweeper = tokio::spawn(sweep(db.clone(), inventory, settings.idempotency_hours, lease));
        Self { relay, sagas, sweeper }
    }

    /// What the relay has done, for metrics.
    pub fn deliveries(&self) -> impl Fn() -> Vec<RelayStats> + Send + Sync + 'static {
        self.relay.reader()
    }

    /// Ends what is in flight and gives the rest back.
    pub async fn stop(self) {
        self.sweeper.abort();
        self.sagas.stop().await;
        self.relay.stop().await;
    }
}

async fn sweep(db: Db, inventory: Arc<dyn Inventory>, idempotency_hours: u32, lease: Duration) {
    // After a long outage checkouts go on first: their goods are still theirs.
    let mut ticks = tokio::time::interval_at(Instant::now() + lease + SWEEP, SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = inventory.expire(&CallContext::new("sweep", SWEEP), EXPIRE_AT_ONCE).await {
            tracing::warn!("expired reservations were not released: {error}");
        }
        if let Err(error) = purge(&db, idempotency_hours).await {
            tracing::warn!("old rows were not purged: {}", chain(&error));
        }
    }
}

async fn purge(db: &Db, idempotency_hours: u32) -> Result<(), DbError> {
    db::idempotency::purge(db, before(idempotency_hours)).await?;
    db::events::purge_inbox(db, before(24 * INBOX_DAYS)).await?;
    db::saga::purge(db, before(24 * SAGA_DAYS)).await?;
    Ok(())
}

fn before(hours: u32) -> Timestamp {
    Timestamp::from_millis(SystemClock.now().as_millis() - i64::from(hours) * HOUR_MS)
}
