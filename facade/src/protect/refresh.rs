//! When an issuer's keys are fetched again, and who waits for it.
//!
//! Invariant: between two fetches lies the minimum pause, whatever tokens ask for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::Uri;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::settings::JwtSettings;

/// Where keys come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Url(Uri),
    File(String),
    /// They are in the settings and never change.
    Settings,
}

/// What the data plane and the one who fetches tell each other.
#[derive(Debug)]
pub(crate) struct Refresh {
    pub(crate) source: Source,
    pub(crate) pause: Duration,
    pub(crate) interval: Duration,
    pub(crate) stale_limit: Duration,
    pub(crate) fetch_timeout: Duration,
    pub(crate) wanted: Notify,
    pub(crate) failures: AtomicU64,
    pub(crate) trouble: Mutex<Option<String>>,
    begun: Mutex<Option<Instant>>,
    is_running: AtomicBool,
    /// Counts fetches that have ended.
    rounds: watch::Sender<u64>,
}

impl Refresh {
    pub(crate) fn new(settings: &JwtSettings, place: &str, errors: &mut Vec<String>) -> Self {
        let source = source(settings, place, errors);
        Self {
            // What the first request needs is on its way from the start.
            is_running: AtomicBool::new(matches!(source, Source::Url(_))),
            source,
            pause: Duration::from_secs(settings.min_pause_s),
            interval: Duration::from_secs(settings.refresh_s.max(settings.min_pause_s)),
            stale_limit: Duration::from_secs(settings.stale_limit_s),
            fetch_timeout: Duration::from_millis(settings.fetch_timeout_ms),
            wanted: Notify::new(),
            failures: AtomicU64::new(0),
            trouble: Mutex::default(),
            begun: Mutex::default(),
            rounds: watch::Sender::new(0),
        }
    }

    /// Asks for newer keys than those of `round`. True once there may be some; false at once where it is too early to
    /// ask, and after the patience of a fetch.
    pub(crate) async fn newer_than(&self, round: u64) -> bool {
        if matches!(self.source, Source::Settings) {
            return false;
        }
        let mut rounds = self.rounds.subscribe();
        if *rounds.borrow_and_update() != round {
            return true;
        }
        if !self.is_running.load(Ordering::Acquire) {
            if self.left_of_pause() > Duration::ZERO {
                return false;
            }
            self.wanted.notify_one();
        }
        let patience = self.fetch_timeout + Duration::from_millis(100);
        matches!(timeout(patience, rounds.changed()).await, Ok(Ok(())))
    }

    /// How long it is still too early to fetch.
    pub(crate) fn left_of_pause(&self) -> Duration {
        let begun = *self.begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        begun.map_or(Duration::ZERO, |begun| self.pause.saturating_sub(begun.elapsed()))
    }

    pub(crate) fn begin(&self) {
        self.is_running.store(true, Ordering::Release);
        *self.begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now());
    }

    /// The number of the round that ends.
    pub(crate) fn round(&self) -> u64 {
        *self.rounds.borrow() + 1
    }

    /// Says that a fetch has ended, whatever came of it.
    pub(crate) fn end(&self) {
        self.is_running.store(false, Ordering::Release);
        self.rounds.send_modify(|rounds| *rounds += 1);
    }
}

fn source(settings: &JwtSettings, place: &str, errors: &mut Vec<String>) -> Source {
    if !settings.jwks_file.is_empty() {
        return Source::File(settings.jwks_file.clone());
    }
    if settings.jwks_url.is_empty() {
        return Source::Settings;
    }
    match settings.jwks_url.parse::<Uri>() {
        Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() => {
            Source::Url(uri)
        }
        _ => {
            errors.push(format!(
                "setting `{place}.jwks_url`: `{}` is no URL; write it as https://host/path",
                settings.jwks_url
            ));
            Source::Settings
        }
    }
}
