//! Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write};

/// Begins a family of metrics. `name` comes without the prefix that all of ours share.
pub(crate) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing into a String cannot fail.
    let _ = write!(out, "# HELP banyan_facade_{name} {help}\n# TYPE banyan_facade_{name} {kind}\n");
}

/// One sample. `labels` stand there as they will between the braces.
pub(crate) fn line(out: &mut String, name: &str, labels: &str, value: impl Display) {
    let _ = match labels {
        "" => writeln!(out, "banyan_facade_{name} {value}"),
        _ => writeln!(out, "banyan_facade_{name}{{{labels}}} {value}"),
    };
}

/// Microseconds as seconds, exactly.
pub(crate) fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
