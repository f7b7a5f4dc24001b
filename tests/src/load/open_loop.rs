//! Load at a constant rate, whatever the answers take: for latencies under a rate that is chosen, not found.
//!
//! Invariant: coordinated omission is corrected. A request is due at its time; one that is sent late because its
//! connection still waits for an answer counts from when it was due. Only a lateness of the generator itself, which
//! wakes up a little after the time that it was told, counts for nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

/// How long an answer may take before the run counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A rate of requests over kept connections.
#[derive(Debug, Clone)]
pub struct OpenLoop {
    /// Host and port.
    pub address: String,
    /// The bytes of each request, head and all.
    pub request: Vec<u8>,
    /// Requests a second, over all connections.
    pub rate: f64,
    /// Connections, each with a thread.
    pub connections: u32,
    /// How long requests become due.
    pub duration: Duration,
}

impl OpenLoop {
    /// Runs the load; the latency of each request, shortest first. An answer that is not 200 ends it with an error.
    pub fn run(&self) -> Result<Vec<Duration>> {
        let start = Instant::now() + Duration::from_millis(100);
        let connections: Vec<_> = (0..self.connections)
            .map(|number| {
                let load = self.clone();
                thread::spawn(move || load.connection(number, start))
            })
            .collect();
        let mut latencies = Vec::new();
        for connection in connections {
            latencies.extend(connection.join().map_err(|_| anyhow!("a connection panicked"))??);
        }
        latencies.sort_unstable();
        Ok(latencies)
    }

    fn connection(&self, number: u32, start: Instant) -> Result<Vec<Duration>> {
        let mut stream = TcpStream::connect(&self.address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let period = Duration::from_secs_f64(f64::from(self.connections) / self.rate);
        let mut due = start + Duration::from_secs_f64(f64::from(number) / self.rate);
        let (mut latencies, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        while due < start + self.duration {
            let early = due.saturating_duration_since(Instant::now());
            let begun = if early.is_zero() {
                due
            } else {
                thread::sleep(early);
                Instant::now()
            };
            stream.write_all(&self.request)?;
            answer(&mut stream, &mut buffer)?;
            latencies.push(begun.elapsed());
            due += period;
        }
        Ok(latencies)
    }
}

/// Reads one answer that says how long it is.
fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    loop {
        let room =
            buffer.get_mut(filled..).filter(|room| !room.is_empty()).context("an answer is too long")?;
        let read = stream.read(room).context("an answer did not come")?;
        ensure!(read > 0, "the connection was closed");
        filled += read;
        let seen = buffer.get(..filled).unwrap_or_default();
        if let Some(whole) = length(seen)? {
            ensure!(filled <= whole, "more came than one answer");
            if filled == whole {
                return Ok(());
            }
        }
    }
}

/// Head and body together; none while the head is not complete.
fn length(seen: &[u8]) -> Result<Option<usize>> {
    let Some(end) = seen.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(seen.get(..end).unwrap_or_default()).to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200 "), "answered {}", head.lines().next().unwrap_or_default());
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.context("an answer without a length")?.trim().parse()?;
    Ok(Some(end + 4 + length))
}

/// The value below which that share of the sorted values lies.
pub fn percentile(sorted: &[Duration], share: f64) -> Option<Duration> {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_server_that_stands_still_is_seen_in_every_request_that_was_due() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 1024];
            for number in 0.. {
                if stream.read(&mut buffer).unwrap_or(0) == 0 {
                    return;
                }
                if number == 10 {
                    thread::sleep(Duration::from_millis(300));
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
            }
        });
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec();
        let duration = Duration::from_secs(1);
        let load = OpenLoop { address, request, rate: 100.0, connections: 1, duration };
        let latencies = load.run().unwrap();
        assert_eq!(latencies.len(), 100);
        let late = latencies.iter().filter(|latency| **latency > Duration::from_millis(100)).count();
        assert!(late >= 15, "only {late} of the requests that were due in 300 ms count as late");
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&sorted, 0.99), Some(Duration::from_millis(99)));
        assert_eq!(percentile(&sorted, 1.0), Some(Duration::from_millis(100)));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
