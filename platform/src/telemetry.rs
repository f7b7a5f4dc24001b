//! Logs: to standard error, as JSON unless a person watches. `RUST_LOG` filters, `info` by default.
//!
//! Invariant: standard output stays free for results and for the lines that say where a server listens.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// What the HTTP library says of its own start is noise to an operator.
const DEFAULT_FILTER: &str = "info,actix_server=warn";

/// Starts logging for this process. A second call in one process changes nothing.
pub fn init(service: &'static str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = if io::stderr().is_terminal() {
        builder.with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    };
    if started.is_ok() {
        tracing::debug!(service, "logging started");
    }
}
