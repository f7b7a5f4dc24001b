//! Progress as people see it: a bar on a terminal, plain lines when piped, nothing when a program reads.
//!
//! Invariant: progress goes to standard error; standard output carries results only.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_millis(500);

/// Shows how far a long command has come.
pub struct Meter {
    label: String,
    look: Look,
    total: u64,
    begun_at: u64,
    began: Instant,
    printed: Option<Instant>,
}

enum Look {
    Bar(ProgressBar),
    Lines,
    Silent,
}

impl Meter {
    /// Shows nothing.
    pub fn silent() -> Self {
        Self::new(String::new(), Look::Silent)
    }

    /// A bar where a person watches, else lines.
    pub fn visible(label: impl Into<String>) -> Self {
        let label = label.into();
        if !io::stderr().is_terminal() {
            return Self::new(label, Look::Lines);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let template = "{msg} [{bar:32}] {human_pos}/{human_len} rows  {per_sec}  ETA {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(label.clone());
        Self::new(label, Look::Bar(bar))
    }

    fn new(label: String, look: Look) -> Self {
        Self { label, look, total: 0, begun_at: 0, began: Instant::now(), printed: None }
    }

    /// Begins with `done` of `total` rows, so that rate and ETA count only what is done from now on.
    pub fn begin(&mut self, done: u64, total: u64) {
        (self.total, self.begun_at, self.began) = (total.max(done), done, Instant::now());
        if let Look::Bar(bar) = &self.look {
            bar.set_length(self.total);
            bar.set_position(done);
            bar.reset_eta();
        }
        self.line(done, true);
    }

    /// `done` rows are done.
    pub fn advance(&mut self, done: u64) {
        self.grow(done);
        if let Look::Bar(bar) = &self.look {
            bar.set_position(done);
        }
        self.line(done, false);
    }

    /// Ends at `done` rows.
    pub fn end(&mut self, done: u64) {
        self.grow(done);
        if let Look::Bar(bar) = &self.look {
            bar.finish_and_clear();
        }
        self.line(done, true);
    }

    /// Rows that are added meanwhile are copied, too: there are at least as many as are done.
    fn grow(&mut self, done: u64) {
        if done <= self.total {
            return;
        }
        self.total = done;
        if let Look::Bar(bar) = &self.look {
            bar.set_length(done);
        }
    }

    fn line(&mut self, done: u64, always: bool) {
        let due = self.printed.is_none_or(|printed| printed.elapsed() >= LINE_EVERY);
        if !matches!(self.look, Look::Lines) || !(always || due) {
            return;
        }
        self.printed = Some(Instant::now());
        platform::table::print_error_line(&self.text(done));
    }

    fn text(&self, done: u64) -> String {
        let rate = rate(done.saturating_sub(self.begun_at), self.began.elapsed());
        let left = self.total.saturating_sub(done);
        let eta = left.checked_div(rate).map_or_else(|| "?".to_owned(), |seconds| format!("{seconds} s"));
        let (label, total) = (&self.label, self.total);
        format!("{label}: {done}/{total} rows, {rate} rows/s, ETA {eta}")
    }
}

/// Rows per second.
pub fn rate(rows: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    rows.saturating_mul(1000) / millis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_grows_with_what_is_added_meanwhile() {
        let mut meter = Meter::new("backfill users".to_owned(), Look::Silent);
        meter.begin(0, 20_029);
        meter.advance(20_000);
        assert!(meter.text(20_000).starts_with("backfill users: 20000/20029 rows"));
        meter.advance(20_050);
        assert!(meter.text(20_050).starts_with("backfill users: 20050/20050 rows"));
        meter.end(20_072);
        assert!(meter.text(20_072).starts_with("backfill users: 20072/20072 rows"));
        meter.begin(30, 20);
        assert!(meter.text(30).starts_with("backfill users: 30/30 rows"));
    }
}
