//! What the monolith counts besides HTTP: port calls, the pool, waiting events, checkouts.
//!
//! Invariant: what is asked of the database at a scrape is bounded in time, and fails alone.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use contracts::port::{CallOutcome, PortCall, PortObserver};
use contracts::{Clock, SystemClock};
use db::events::ConsumerLag;
use db::{Db, DbError};
use platform::error::chain;
use platform::metrics::{Counter, Durations, Family, Labels, Metrics, Reading};

/// The families of port calls; each wiring observes into them.
pub struct PortMetrics {
    calls: Family<Labels, Counter>,
    durations: Family<Labels, Durations>,
}

impl PortMetrics {
    /// Registers the families.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            calls: metrics
                .counter("banyan_port_calls_total", "Calls of a context's port, by what stands behind it."),
            durations: metrics
                .durations("banyan_port_call_duration_seconds", "How long calls of a port took."),
        }
    }

    /// An observer of calls that go through this wiring.
    pub fn observer(&self, wiring: &'static str) -> Arc<dyn PortObserver> {
        let (calls, durations) = (self.calls.clone(), self.durations.clone());
        Arc::new(Observer { wiring, calls, durations, known: RwLock::default() })
    }
}

/// Context, method and outcome of a call.
type Key = (&'static str, &'static str, CallOutcome);

struct Observer {
    wiring: &'static str,
    calls: Family<Labels, Counter>,
    durations: Family<Labels, Durations>,
    /// Series that were met before: looking one up in its family costs more than many calls do.
    known: RwLock<HashMap<Key, (Counter, Durations)>>,
}

impl Observer {
    fn series(&self, call: &PortCall) -> (Counter, Durations) {
        let outcome = match call.outcome {
            CallOutcome::Done => "done",
            CallOutcome::Refused => "refused",
            CallOutcome::Unavailable => "unavailable",
        };
        let mut labels: Labels = vec![
            ("context", call.context.into()),
            ("method", call.method.into()),
            ("wiring", self.wiring.into()),
        ];
        let durations = self.durations.get_or_create(&labels).clone();
        labels.push(("outcome", outcome.into()));
        (self.calls.get_or_create(&labels).clone(), durations)
    }
}

impl PortObserver for Observer {
    fn called(&self, call: &PortCall) {
        let key = (call.context, call.method, call.outcome);
        if let Some((count, durations)) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&key)
        {
            count.inc();
            return durations.observe(call.took);
        }
        let (count, durations) = self.series(call);
        count.inc();
        durations.observe(call.took);
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(key, (count, durations));
    }
}

/// Adds what is read off the database at a scrape.
pub fn watch_database(metrics: &Metrics, db: &Db) {
    let pools = db.clone();
    metrics.source("pool", move || Ok(pool(&pools)));
    let sagas = db.clone();
    metrics.source("sagas", move || checkouts(&sagas).map_err(|error| chain(&error)));
}

/// Shows what waits for these consumers: those that nothing waits for, too, because an alert needs a series that is there.
pub fn watch_outbox(metrics: &Metrics, db: &Db, consumers: Vec<&'static str>) {
    let db = db.clone();
    metrics.source("outbox", move || waiting(&db, &consumers).map_err(|error| chain(&error)));
}

fn pool(db: &Db) -> Vec<Reading> {
    let roles = match db.backend() {
        db::Backend::Sqlite => vec!["read", "write"],
        db::Backend::Postgres => vec!["any"],
    };
    let readings = roles.into_iter().zip(db.usage()).flat_map(|(role, usage)| {
        let gauge = |name, help, value: u32| Reading::gauge(name, help, f64::from(value)).label("role", role);
        [
            gauge("banyan_db_pool_limit", "Connections that the pool may have.", usage.limit),
            gauge("banyan_db_pool_open", "Connections that the pool has.", usage.open),
            gauge("banyan_db_pool_used", "Connections in use.", usage.used),
        ]
    });
    readings.collect()
}

fn waiting(db: &Db, consumers: &[&str]) -> Result<Vec<Reading>, DbError> {
    let mut lags = db.read_blocking(|conn| db::events::lag(conn, SystemClock.now()))?;
    for consumer in consumers {
        if !lags.iter().any(|lag| lag.consumer == *consumer) {
            lags.push(ConsumerLag { consumer: (*consumer).to_owned(), pending: 0, dead: 0, oldest_ms: 0 });
        }
    }
    let readings = lags.into_iter().flat_map(|lag| {
        let gauge =
            |name, help, value| Reading::gauge(name, help, value).label("consumer", lag.consumer.clone());
        [
            gauge("banyan_outbox_pending", "Events that wait for a consumer.", count(lag.pending)),
            gauge("banyan_outbox_dead", "Events that a consumer could not take.", count(lag.dead)),
            gauge(
                "banyan_outbox_oldest_age_seconds",
                "Age of the oldest event that waits.",
                count(lag.oldest_ms) / 1000.0,
            ),
        ]
    });
    Ok(readings.collect())
}

fn checkouts(db: &Db) -> Result<Vec<Reading>, DbError> {
    let counts = db.read_blocking(db::saga::counts)?;
    let readings = counts.into_iter().map(|found| {
        Reading::gauge("banyan_sagas", "Sagas by state.", count(found.count))
            .label("kind", found.kind)
            .label("state", found.phase.name())
    });
    Ok(readings.collect())
}

/// Metrics are floating-point numbers; beyond 2^53 the last digits are of no matter.
#[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 is shown rounded")]
fn count(number: u64) -> f64 {
    number as f64
}
