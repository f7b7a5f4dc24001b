//! The load generator `wrk`.
//!
//! Invariant: a run in which one request failed yields no figure.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// `wrk` with one thread, that many kept connections and that many seconds; the URL is missing yet.
pub(super) fn command(connections: u32, seconds: u32) -> Command {
    let mut command = Command::new("wrk");
    command.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s")]);
    command
}

/// Runs the load, and returns how many requests were answered, whatever the answers say.
pub(super) fn answers(command: &mut Command) -> Result<u64> {
    let out = shell::output(command)?;
    count(&out)
}

/// Runs the load, and returns how many requests were answered.
pub(super) fn requests(command: &mut Command) -> Result<u64> {
    parse(&shell::output(command)?)
}

fn parse(out: &str) -> Result<u64> {
    if let Some(fault) = out.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors")) {
        bail!("wrk counted failed requests: {}", fault.trim());
    }
    count(out)
}

fn count(out: &str) -> Result<u64> {
    let line = out.lines().find(|line| line.contains("requests in")).context("wrk counted no requests")?;
    let count = line.split_whitespace().next().unwrap_or_default();
    count.parse().with_context(|| format!("wrk printed `{}`", line.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_from_what_wrk_prints() {
        let out = "Running 4s test\n  Latency 1ms\n  48211 requests in 4.00s, 30MB read\n";
        assert_eq!(parse(out).unwrap(), 48_211);
        assert!(parse(&format!("{out}  Non-2xx or 3xx responses: 3\n")).is_err());
        assert!(parse("unable to connect").is_err());
    }
}
