//! Free ports for processes that must know each other's address before they start.
//!
//! Invariant: a port is given out once per process, and never from the range that the kernel uses for outgoing
//! connections; otherwise a server that is killed under load could find its port taken when it comes back.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;

static GIVEN: AtomicU32 = AtomicU32::new(0);

/// A port of the loopback interface on which nobody listens now.
pub fn free() -> Result<u16> {
    // Runs that go on side by side begin far from each other, and each candidate is tried before it is given out.
    let start = std::process::id().wrapping_mul(7919);
    for _ in 0..COUNT {
        let step = GIVEN.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + start.wrapping_add(step) % COUNT)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {FIRST} to {} is free; stop other programs that listen there", FIRST + COUNT - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_calls_give_two_ports() {
        assert_ne!(free().unwrap(), free().unwrap());
    }
}
