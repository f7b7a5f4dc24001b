//! Signals to processes that are not our children.
//!
//! Invariant: whoever was asked to stop has stopped when [`suspend`] returns.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(2);

/// Sends a signal; a process that has ended meanwhile is passed over.
pub(crate) fn signal(name: &str, pids: &[u32]) -> Result<()> {
    if pids.is_empty() {
        return Ok(());
    }
    // The standard library sends SIGKILL only, and to children only; unsafe code is not worth a signal.
    let mut kill = Command::new("kill");
    kill.arg(name).args(pids.iter().map(u32::to_string)).stderr(Stdio::null());
    kill.status().context("cannot run kill")?;
    Ok(())
}

/// Suspends processes and waits until none of them runs.
pub(crate) fn suspend(pids: &[u32]) -> Result<()> {
    signal("-STOP", pids)?;
    let deadline = Instant::now() + PATIENCE;
    for pid in pids {
        // A process that has ended has no state.
        while stat(*pid).is_some_and(|(state, _)| !matches!(state, 'T' | 'Z' | 'X')) {
            ensure!(Instant::now() < deadline, "process {pid} still runs {PATIENCE:?} after SIGSTOP");
            thread::sleep(STEP);
        }
    }
    Ok(())
}

/// The processes that this one started.
pub(crate) fn children(parent: u32) -> Result<Vec<u32>> {
    let processes = fs::read_dir("/proc").context("freezing a server needs Linux's /proc")?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Ok(pids.filter(|pid| stat(*pid).is_some_and(|(_, its_parent)| its_parent == parent)).collect())
}

/// State and parent of a process. They follow its name, which stands in brackets and may hold anything.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
