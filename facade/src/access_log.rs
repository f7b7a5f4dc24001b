//! The access log: one line per request, written by a thread of its own.
//!
//! Invariant: no request waits for its line. A worker hands it to a bounded queue, and one that finds no room is
//! dropped and counted.

mod line;
mod output;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::random::Random;
use crate::settings::{AccessLogFormat, AccessLogSettings, Settings};
use line::Writer;
use output::Output;

pub(crate) use line::Line;

/// Lines that a queue may be told to hold.
const MOST_QUEUED: usize = 1_000_000;

/// The settings of the access log, checked.
#[derive(Debug, Clone)]
pub(crate) struct AccessLogPlan {
    settings: AccessLogSettings,
    /// In 2⁻³².
    share: u64,
}

impl AccessLogPlan {
    /// Checks the settings; whatever is wrong is added to `errors`.
    pub(crate) fn new(settings: &Settings, errors: &mut Vec<String>) -> Self {
        let mut settings = settings.access_log.clone();
        if !(0.0..=1.0).contains(&settings.sample) {
            errors.push(format!(
                "setting `access_log.sample` is {}; it is a share, from 0 to 1",
                settings.sample
            ));
        }
        if !(1..=MOST_QUEUED).contains(&settings.queue_lines) {
            errors.push(format!(
                "setting `access_log.queue_lines` is {}; it must be 1 to {MOST_QUEUED}",
                settings.queue_lines
            ));
        }
        if settings.path.as_os_str().is_empty() {
            errors.push("setting `access_log.path` is empty; name a file, `stdout` or `stderr`".to_owned());
        }
        settings.masked.iter_mut().for_each(|name| name.make_ascii_lowercase());
        // A share is at most 1, so what is cut off is a fraction.
        let share = (settings.sample.clamp(0.0, 1.0) * 4_294_967_296.0) as u64;
        Self { settings, share }
    }
}

/// The running log; dropping it writes what is queued and ends the thread.
#[derive(Debug)]
pub(crate) struct AccessLog {
    queue: Option<SyncSender<Entry>>,
    reopen: Arc<AtomicBool>,
    share: u64,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Entry {
    Line(Box<Line>),
    /// There is something else to do.
    Wake,
}

/// A worker's end of the queue.
#[derive(Debug)]
pub(crate) struct LogQueue {
    queue: SyncSender<Entry>,
    random: Random,
    share: u64,
}

impl AccessLog {
    /// Opens the log and starts its thread; nothing where the log is off.
    pub(crate) fn start(plan: &AccessLogPlan) -> io::Result<Option<Self>> {
        let settings = &plan.settings;
        if settings.format == AccessLogFormat::Off {
            return Ok(None);
        }
        let output = Output::open(&settings.path)?;
        let (queue, lines) = sync_channel(settings.queue_lines.clamp(1, MOST_QUEUED));
        let reopen = Arc::new(AtomicBool::new(false));
        let writer = Writer::new(settings.format, settings.masked.clone());
        let run = Run { lines, output, writer, reopen: Arc::clone(&reopen) };
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(move || run.run())?;
        Ok(Some(Self { queue: Some(queue), reopen, share: plan.share, thread: Some(thread) }))
    }

    /// A worker's end of the queue.
    pub(crate) fn queue(&self) -> Option<LogQueue> {
        let queue = self.queue.clone()?;
        Some(LogQueue { queue, random: Random::new(), share: self.share })
    }

    /// Opens the file anew, so that one that was renamed is let go. Lines already queued go to the new one.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Relaxed);
        if let Some(queue) = &self.queue {
            // A full queue wakes the thread anyhow.
            let _ = queue.try_send(Entry::Wake);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

/// Whether a line went into the queue, or why not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    Yes,
    /// It is none of the sample.
    Skipped,
    Dropped,
}

impl LogQueue {
    /// Queues a line, unless it is left out of the sample.
    pub(crate) fn offer(&mut self, line: Box<Line>) -> Queued {
        let is_certain = line.status.is_none_or(|status| status >= 500);
        if !is_certain && !self.random.hits(self.share) {
            return Queued::Skipped;
        }
        if self.queue.try_send(Entry::Line(line)).is_ok() { Queued::Yes } else { Queued::Dropped }
    }
}

struct Run {
    lines: Receiver<Entry>,
    output: Output,
    writer: Writer,
    reopen: Arc<AtomicBool>,
}

impl Run {
    /// Writes what is there in one go, and waits only when nothing is.
    fn run(mut self) {
        let mut buffer = Vec::new();
        while let Ok(first) = self.lines.recv() {
            let mut next = Some(first);
            while let Some(entry) = next {
                if let Entry::Line(line) = entry {
                    self.writer.write(&mut buffer, &line);
                }
                next = (buffer.len() < output::MOST_BUFFERED).then(|| self.lines.try_recv().ok()).flatten();
            }
            if self.reopen.swap(false, Relaxed) {
                self.output.reopen();
            }
            self.output.write(&buffer);
            buffer.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(share: u64, lines: usize) -> (LogQueue, Receiver<Entry>) {
        let (queue, receiver) = sync_channel(lines);
        (LogQueue { queue, random: Random::new(), share }, receiver)
    }

    fn line(status: Option<u16>) -> Box<Line> {
        Box::new(Line { status, ..Line::sample() })
    }

    #[test]
    fn every_wrong_setting_is_told_at_once() {
        let access_log = AccessLogSettings {
            sample: 1.5,
            queue_lines: 0,
            path: std::path::PathBuf::new(),
            ..AccessLogSettings::default()
        };
        let settings = Settings { access_log, ..Settings::default() };
        let mut errors = Vec::new();
        AccessLogPlan::new(&settings, &mut errors);
        for name in ["access_log.sample", "access_log.queue_lines", "access_log.path"] {
            assert!(errors.iter().any(|error| error.contains(name)), "{name} is not in {errors:?}");
        }
    }

    #[test]
    fn failures_are_logged_whatever_the_sample() {
        let (mut queue, _receiver) = queue(0, 10);
        assert_eq!(queue.offer(line(Some(200))), Queued::Skipped);
        assert_eq!(queue.offer(line(Some(404))), Queued::Skipped);
        assert_eq!(queue.offer(line(Some(503))), Queued::Yes);
        assert_eq!(queue.offer(line(None)), Queued::Yes);
    }

    #[test]
    fn a_sample_is_a_share_of_the_requests() {
        let (mut queue, receiver) = queue(1 << 30, 10_000);
        for _ in 0..10_000 {
            queue.offer(line(Some(200)));
        }
        let kept = receiver.try_iter().count();
        assert!((2_200..2_800).contains(&kept), "{kept} of 10000, not a quarter");
    }

    #[test]
    fn a_full_queue_drops_instead_of_waiting() {
        let (mut queue, _receiver) = queue(1 << 32, 2);
        let outcomes: Vec<_> = (0..3).map(|_| queue.offer(line(Some(200)))).collect();
        assert_eq!(outcomes, [Queued::Yes, Queued::Yes, Queued::Dropped]);
    }
}
