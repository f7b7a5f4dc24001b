//! How the control store is, as metrics show it.
//!
//! Invariant: the store that cannot be read shows as `up` 0 and an age that grows, while the last known flags go on.

use std::fmt::{self, Write};
use std::sync::{Arc, Weak};

use control::{Vitals, Watcher};

use super::{Flags, WatchedBy};

impl fmt::Debug for WatchedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchedBy")
    }
}

impl Flags {
    /// Takes the watcher that keeps these flags.
    pub(crate) fn watched_by(&self, watcher: &Arc<Watcher>) {
        // There is one watcher for all of a facade's life.
        let _ = self.watcher.set(WatchedBy(Arc::downgrade(watcher)));
    }

    /// How the store was when it was last looked at; none before the first time and after the end.
    pub(crate) fn vitals(&self) -> Option<Vitals> {
        Some(self.watcher.get().map(|by| &by.0).and_then(Weak::upgrade)?.vitals())
    }

    /// The control store in Prometheus' text format.
    pub(crate) fn render_vitals(&self, out: &mut String) {
        let vitals = self.vitals();
        let up = u8::from(vitals.is_some_and(|vitals| vitals.up));
        // Writing into a String cannot fail.
        let _ = write!(
            out,
            "# HELP banyan_facade_control_store_up Whether the control store could be read last time.\n\
             # TYPE banyan_facade_control_store_up gauge\nbanyan_facade_control_store_up {up}\n"
        );
        if let Some(age) = vitals.and_then(|vitals| vitals.age) {
            let _ = write!(
                out,
                "# HELP banyan_facade_control_store_reading_age_seconds Since the flags were last read or found \
                 unchanged.\n# TYPE banyan_facade_control_store_reading_age_seconds gauge\n\
                 banyan_facade_control_store_reading_age_seconds {:.3}\n",
                age.as_secs_f64()
            );
        }
    }
}
