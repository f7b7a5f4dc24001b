//! How the control store is, as metrics show it.
//!
//! Invariant: the store that cannot be read shows as `up` 0 and an age that grows, while the last known flags go on.

use std::fmt::{self, Write};
use std::sync::{Arc, Weak};
use std::time::Duration;

use control::{Vitals, Watcher, now_ms};

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

    /// When the store last said what is served now, in milliseconds since 1970, if it can be read at all.
    pub(crate) fn confirmed_ms(&self) -> Option<i64> {
        let age = self.vitals().filter(|vitals| vitals.up)?.age?;
        Some(now_ms() - i64::try_from(age.as_millis()).ok()?)
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
        let copied_ms = self.state().copied_ms;
        let copied = u8::from(copied_ms.is_some());
        let _ = write!(
            out,
            "# HELP banyan_facade_flags_copied Whether the flags come from the copy on disk.\n\
             # TYPE banyan_facade_flags_copied gauge\nbanyan_facade_flags_copied {copied}\n"
        );
        let of_copy = |at: i64| Duration::from_millis(u64::try_from(now_ms() - at).unwrap_or(0));
        let age = copied_ms.map(of_copy).or_else(|| vitals.and_then(|vitals| vitals.age));
        if let Some(age) = age {
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
