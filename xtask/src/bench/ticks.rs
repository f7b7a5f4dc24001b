//! What a process used, as the kernel's accounts say.

use std::fs;

use anyhow::{Context, Result};

/// Microseconds of one clock tick in `/proc`: 1/100 s on every Linux that matters here.
const TICK_MICROS: u64 = 10_000;

/// CPU time of a process and its children per request, in microseconds; `load` runs the requests and counts them.
pub(super) fn micros_per_request(pid: u32, load: impl FnOnce() -> Result<u64>) -> Result<f64> {
    let before = of_tree(pid)?;
    let requests = load()?;
    let used = (of_tree(pid)? - before) * TICK_MICROS;
    Ok(used as f64 / requests as f64)
}

/// Clock ticks on the CPU, of a process and its children.
fn of_tree(pid: u32) -> Result<u64> {
    let mut sum = of_process(pid)?;
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in listed.split_whitespace() {
        sum += of_process(child.parse()?)?;
    }
    Ok(sum)
}

fn of_process(pid: u32) -> Result<u64> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("no process {pid}"))?;
    parse_stat(&text).with_context(|| format!("cannot read the accounts of process {pid}"))
}

/// User and system time. The command's name may hold blanks and brackets, so fields count from its last bracket.
fn parse_stat(text: &str) -> Option<u64> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The most memory that a process has held so far, in KiB; nothing once it has ended.
pub(super) fn peak_memory_kib(pid: u32) -> Option<u64> {
    memory_kib(pid, "VmHWM:")
}

/// The memory that a process holds now, in KiB; nothing once it has ended.
pub(super) fn resident_memory_kib(pid: u32) -> Option<u64> {
    memory_kib(pid, "VmRSS:")
}

fn memory_kib(pid: u32, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let text = "7 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 30 12 13 14";
        assert_eq!(parse_stat(text), Some(42));
    }

    #[test]
    fn this_process_has_accounts() {
        let pid = std::process::id();
        assert!(of_tree(pid).is_ok());
        assert!(peak_memory_kib(pid).is_some_and(|kib| kib > 100));
    }
}
