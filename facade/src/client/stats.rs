//! What is counted of clients' connections, over all workers.
//!
//! Invariant: nothing here is written more than a few times per connection, so that workers may share it.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Refusals that may be under way at once; the rest of a flood is closed without a word.
const MOST_REFUSALS: u64 = 256;

/// Counters of connections.
#[derive(Debug, Default)]
pub(crate) struct ClientStats {
    open: AtomicU64,
    refusing: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) slow_head: AtomicU64,
    pub(crate) idle: AtomicU64,
    pub(crate) stalled: AtomicU64,
    pub(crate) failed_handshakes: AtomicU64,
    pub(crate) upgrades: AtomicU64,
    pub(crate) upgrades_open: AtomicU64,
}

/// One connection of those that may be open; dropping it frees its place.
#[derive(Debug)]
pub(crate) struct Slot(Arc<ClientStats>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// A refusal under way; dropping it makes place for another.
#[derive(Debug)]
pub(crate) struct Refusing(Arc<ClientStats>);

impl Drop for Refusing {
    fn drop(&mut self) {
        self.0.refusing.fetch_sub(1, Relaxed);
    }
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl ClientStats {
    /// A place for a connection, if there is one left.
    pub(crate) fn enter(self: &Arc<Self>, most: u64) -> Option<Slot> {
        let slot = Slot(Arc::clone(self));
        (self.open.fetch_add(1, Relaxed) < most).then_some(slot)
    }

    /// A place to say that there is none, if not too many are being told already.
    pub(crate) fn refuse(self: &Arc<Self>) -> Option<Refusing> {
        let refusing = Refusing(Arc::clone(self));
        (self.refusing.fetch_add(1, Relaxed) < MOST_REFUSALS).then_some(refusing)
    }

    /// In Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let rows = [
            (
                "connections_turned_away_total",
                "counter",
                "Connections closed at once because too many were open.",
                read(&self.turned_away),
            ),
            (
                "tls_handshake_failures_total",
                "counter",
                "TLS handshakes that failed or took too long.",
                read(&self.failed_handshakes),
            ),
            ("upgrades_total", "counter", "Connections that became tunnels by a 101.", read(&self.upgrades)),
            ("upgrades_open", "gauge", "Tunnels that are open.", read(&self.upgrades_open)),
        ];
        for (name, kind, help, value) in rows {
            head(&mut out, name, kind, help);
            let _ = writeln!(out, "banyan_facade_{name} {value}");
        }
        let name = "connections_timed_out_total";
        head(
            &mut out,
            name,
            "counter",
            "Connections closed because the client took too long, by what it took long for.",
        );
        for (phase, counter) in [("head", &self.slow_head), ("idle", &self.idle), ("answer", &self.stalled)] {
            let _ = writeln!(out, "banyan_facade_{name}{{phase=\"{phase}\"}} {}", read(counter));
        }
        out
    }
}

/// The two lines above a metric. Writing into a String cannot fail.
pub(crate) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(out, "# HELP banyan_facade_{name} {help}\n# TYPE banyan_facade_{name} {kind}\n");
}
