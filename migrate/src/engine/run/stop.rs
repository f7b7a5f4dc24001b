//! The wish to stop, shared by all threads of a command.
//!
//! Invariant: once stopped, it stays stopped, and every rest ends at once.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::MigrateError;

/// The wish to stop.
#[derive(Debug, Default)]
pub struct Stop {
    stopped: Mutex<bool>,
    wake: Condvar,
}

impl Stop {
    /// One that SIGINT and SIGTERM set.
    pub fn by_signals() -> Result<Arc<Self>, MigrateError> {
        let stop = Arc::new(Self::default());
        if cfg!(test) {
            // Whoever runs tests wants a signal to end them all, not one command of one of them.
            return Ok(stop);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| MigrateError::failed(format!("cannot listen for signals: {error}")))?;
        let told = Arc::clone(&stop);
        std::thread::spawn(move || {
            if let Err(error) = runtime.block_on(signalled()) {
                tracing::warn!(%error, "cannot listen for signals; a signal ends the process at once");
                return;
            }
            tracing::info!("told to stop; the transactions under way are finished first");
            told.stop();
        });
        Ok(stop)
    }

    /// Asks everything to stop.
    pub fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }

    /// Whether it was asked.
    pub fn is_stopped(&self) -> bool {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rests, unless it is or gets stopped.
    pub fn rest(&self, time: Duration) {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let _woken = self.wake.wait_timeout_while(stopped, time, |stopped| !*stopped);
    }
}

async fn signalled() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupted, mut terminated) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    Ok(())
}
