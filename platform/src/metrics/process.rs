//! What the operating system knows of this process, under the names that every Prometheus client uses.
//!
//! Invariant: what cannot be read is left out; a wrong zero would look like a measurement.

use std::fs;

use super::Reading;

/// Ticks per second in `/proc`: Linux reports in units of 1/100 s on every architecture (`man 5 proc`, USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;
/// Fields of `/proc/self/stat` counted from the one after the name, which is field 2.
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const START_TICKS: usize = 19;

pub(super) fn readings() -> Vec<Reading> {
    let stat = Stat::read();
    let cpu = stat.as_ref().and_then(|stat| Some(stat.seconds(USER_TICKS)? + stat.seconds(SYSTEM_TICKS)?));
    let start = stat.as_ref().and_then(|stat| Some(boot_time()? + stat.seconds(START_TICKS)?));
    [
        cpu.map(|value| Reading::counter("process_cpu_seconds_total", "CPU time, user and system.", value)),
        start.map(|value| Reading::gauge("process_start_time_seconds", "Start, in Unix time.", value)),
        resident().map(|value| Reading::gauge("process_resident_memory_bytes", "Resident memory.", value)),
        open_files().map(|value| Reading::gauge("process_open_fds", "Open file descriptors.", value)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

struct Stat(String);

impl Stat {
    fn read() -> Option<Self> {
        fs::read_to_string("/proc/self/stat").ok().map(Self)
    }

    fn seconds(&self, field: usize) -> Option<f64> {
        // The name stands in parentheses and may hold spaces, so the fields are counted from its end.
        let (_, fields) = self.0.rsplit_once(") ")?;
        fields.split(' ').nth(field)?.parse().ok().map(|ticks: f64| ticks / TICKS_PER_SECOND)
    }
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn resident() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kib.trim().strip_suffix(" kB")?.parse().ok().map(|kib: f64| kib * 1024.0)
}

fn open_files() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    // The folder itself is open while it is read.
    u32::try_from(count.saturating_sub(1)).ok().map(f64::from)
}
