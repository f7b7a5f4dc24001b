//! Reads the settings anew, on SIGHUP and when their file has changed.
//!
//! Invariant: a file is read once it has stayed the same from one look to the next, so not while it is being written.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use facade::check::{Finding, check};
use facade::reload::Reloader;
use facade::settings::DEFAULT_FILE;
use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What of a file changes with its contents: when, how long, which one.
type Stamp = Option<(i64, i64, u64, u64)>;

/// The settings file as it was before it was read for the first time.
pub(crate) struct Watched {
    config: Option<PathBuf>,
    in_force: Stamp,
}

impl Watched {
    /// To be called before the settings are read: what changes from then on is noticed.
    pub(crate) fn new(config: Option<&Path>) -> Self {
        let in_force = stamp(config.unwrap_or(Path::new(DEFAULT_FILE)));
        Self { config: config.map(Path::to_owned), in_force }
    }
}

pub(crate) async fn watch(reloader: Reloader, Watched { config, mut in_force }: Watched, mut hangup: Signal) {
    let file = config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = stamp(&file);
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                in_force = stamp(&file);
                read(&reloader, config.clone()).await;
            }
            _ = ticks.tick() => {
                let now = stamp(&file);
                let has_settled = now == last;
                last = now;
                if has_settled && now != in_force && reloader.is_watching() {
                    in_force = now;
                    read(&reloader, config.clone()).await;
                }
            }
        }
    }
}

/// What is wrong is told by the one who refuses it.
async fn read(reloader: &Reloader, config: Option<PathBuf>) {
    let reloader = reloader.clone();
    let file = config.clone();
    let load =
        move || super::settings(config.as_deref()).map_err(|error| platform::error::chain(error.as_ref()));
    let work = move || {
        if reloader.reload(load).is_err() {
            places(file.as_deref());
        }
    };
    let done = tokio::task::spawn_blocking(work).await;
    if done.is_err() {
        tracing::error!("reading the settings anew failed");
    }
}

/// Where in the file to look; of settings that need a restart there is nothing to find.
fn places(file: Option<&Path>) {
    for Finding { message, file, line, column, .. } in check(file) {
        if let (Some(file), Some(line), Some(column)) = (file, line, column) {
            tracing::error!(file, line, column, "{file}:{line}:{column}: {message}");
        }
    }
}

fn stamp(file: &Path) -> Stamp {
    let found = fs::metadata(file).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
}
