//! Progress bars on a terminal.
//!
//! Invariant: they go to standard error and only to a terminal, so results on standard output stay clean.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::import::Progress;

const TICK: Duration = Duration::from_millis(100);

/// Lines of a file, measured by its bytes where its size is known.
pub(crate) struct Lines(ProgressBar);

impl Lines {
    pub(crate) fn new(size: Option<u64>) -> Self {
        let template = match size {
            Some(_) => "{wide_bar} {percent:>3}% {msg}, {bytes_per_sec}, {eta} left",
            None => "{spinner} {msg}, {bytes_per_sec}, {elapsed}",
        };
        Self(bar(size, template))
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Lines {
    fn advance(&self, bytes: u64, lines: u64) {
        self.0.set_position(bytes);
        self.0.set_message(format!("{lines} lines"));
    }
}

/// Users out of a known number.
pub(crate) struct Users(ProgressBar);

impl Users {
    pub(crate) fn new(count: u64) -> Self {
        Self(bar(Some(count), "{wide_bar} {percent:>3}% {human_pos} users, {per_sec}, {eta} left"))
    }

    pub(crate) fn advance(&self, done: u64) {
        self.0.set_position(done);
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

fn bar(length: Option<u64>, template: &str) -> ProgressBar {
    let bar = match length {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::new_spinner(),
    };
    // The templates are constants; should one be wrong, the default style serves as well.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    if !bar.is_hidden() {
        bar.enable_steady_tick(TICK);
    }
    bar
}
