//! Load at a constant rate, whatever the answers take: for latencies under a rate that is chosen, not found.
//!
//! One thread serves all connections, and may play the upstream behind a proxy as well: more of them would compete for
//! the cores with what is measured, and their waiting for a core would count as its latency.
//!
//! Invariant: coordinated omission is corrected. A request is due at its time; one that is sent late because its
//! connection still waits for an answer counts from when it was due. Only a lateness of the generator itself, which
//! wakes up a little after the time that it was told, counts for nothing.

mod upstream;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};

pub use self::upstream::Upstream;

/// How long an answer may take before the run counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// From the first connection until the first request: time to be accepted.
const SETTLING: Duration = Duration::from_millis(20);

/// A rate of requests over kept connections.
#[derive(Debug, Clone)]
pub struct OpenLoop {
    /// Host and port.
    pub address: String,
    /// The bytes of each request, head and all.
    pub request: Vec<u8>,
    /// Requests a second, over all connections.
    pub rate: f64,
    /// Connections, which take turns.
    pub connections: u32,
    /// How long requests become due.
    pub duration: Duration,
    /// The first requests on each connection, which are sent like all others and not counted.
    pub warm_up: u32,
}

/// One kept connection.
struct Connection {
    stream: TcpStream,
    /// When its next request is due, or the one that it waits for was.
    due: Instant,
    /// From when the answer it waits for counts.
    begun: Option<Instant>,
    /// Answers that are not counted, yet to come.
    cold: u32,
    buffer: Vec<u8>,
    filled: usize,
}

/// What is ready, as a place among connections or among those of the upstream.
enum Ready {
    Answer(usize),
    Accept,
    Request(usize),
}

/// Told of by the kernel for the upstream's listener; places of its connections follow.
const LISTENER: u64 = 1 << 32;

impl OpenLoop {
    /// Runs the load; the latency of each request, shortest first. An answer that is not 200 ends it with an error.
    /// `upstream` is served meanwhile.
    pub fn run(&self, mut upstream: Option<&mut Upstream>) -> Result<Vec<Duration>> {
        let readiness = Readiness::new()?;
        if let Some(upstream) = &upstream {
            readiness.add(upstream.listener(), LISTENER)?;
            for (place, stream) in upstream.streams() {
                readiness.add(stream, LISTENER + 1 + place as u64)?;
            }
        }
        let start = Instant::now() + SETTLING;
        let end = start + self.duration;
        let period = Duration::from_secs_f64(f64::from(self.connections) / self.rate);
        let mut connections = Vec::new();
        for number in 0..self.connections {
            let due = start + Duration::from_secs_f64(f64::from(number) / self.rate);
            let connection = Connection::open(&self.address, due, self.warm_up)?;
            readiness.add(&connection.stream, u64::from(number))?;
            connections.push(connection);
        }
        let mut latencies = Vec::new();
        loop {
            for connection in connections.iter_mut().filter(|one| one.begun.is_none() && one.due < end) {
                let now = Instant::now();
                if connection.due <= now {
                    connection.ask(&self.request, now)?;
                }
            }
            let wake = |one: &Connection| one.begun.map_or(one.due, |begun| begun + PATIENCE);
            let open = connections.iter().filter(|one| one.begun.is_some() || one.due < end);
            let Some(wake) = open.map(wake).min() else { break };
            for ready in readiness.wait(wake.saturating_duration_since(Instant::now()))? {
                match (ready, &mut upstream) {
                    (Ready::Answer(place), _) => {
                        let Some(connection) = connections.get_mut(place) else { continue };
                        let Some(latency) = connection.answered()? else { continue };
                        match connection.cold.checked_sub(1) {
                            Some(cold) => connection.cold = cold,
                            None => latencies.push(latency),
                        }
                        connection.due += period;
                        if connection.due < Instant::now().min(end) {
                            connection.ask(&self.request, connection.due)?;
                        }
                    }
                    (Ready::Accept, Some(upstream)) => {
                        while let Some((place, stream)) = upstream.accept()? {
                            readiness.add(stream, LISTENER + 1 + place as u64)?;
                        }
                    }
                    (Ready::Request(place), Some(upstream)) => upstream.serve(place)?,
                    (_, None) => {}
                }
            }
            ensure!(
                connections.iter().all(|one| one.begun.is_none_or(|begun| begun.elapsed() < PATIENCE)),
                "an answer did not come within {PATIENCE:?}"
            );
        }
        latencies.sort_unstable();
        Ok(latencies)
    }
}

/// Which of many sockets can be read.
struct Readiness {
    epoll: OwnedFd,
}

impl Readiness {
    fn new() -> Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    fn add(&self, socket: impl AsFd, place: u64) -> Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(place), EventFlags::IN)?)
    }

    /// Waits so long at most.
    fn wait(&self, wait: Duration) -> Result<Vec<Ready>> {
        // `epoll_wait` knows milliseconds only, `ppoll` is exact.
        let mut all = [PollFd::new(&self.epoll, PollFlags::IN)];
        match poll(&mut all, Some(&Timespec::try_from(wait)?)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            other => other.context("cannot wait for answers")?,
        };
        let mut events = Vec::with_capacity(256);
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&Timespec::default()))?;
        let ready = |event: &Event| match event.data.u64() {
            LISTENER => Ready::Accept,
            place if place > LISTENER => Ready::Request((place - LISTENER - 1) as usize),
            place => Ready::Answer(place as usize),
        };
        Ok(events.iter().map(ready).collect())
    }
}

impl Connection {
    fn open(address: &str, due: Instant, cold: u32) -> Result<Self> {
        let stream = TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, due, begun: None, cold, buffer: vec![0; 64 * 1024], filled: 0 })
    }

    fn ask(&mut self, request: &[u8], begun: Instant) -> Result<()> {
        self.stream.write_all(request)?;
        (self.begun, self.filled) = (Some(begun), 0);
        Ok(())
    }

    /// Reads what is there; what the answer took, if it says how long it is and is whole.
    fn answered(&mut self) -> Result<Option<Duration>> {
        let room = self.buffer.get_mut(self.filled..).filter(|room| !room.is_empty());
        let read = match self.stream.read(room.context("an answer is too long")?) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            read => read.context("an answer did not come")?,
        };
        ensure!(read > 0, "the connection was closed");
        let Some(begun) = self.begun else { bail!("an answer came that was not asked for") };
        self.filled += read;
        let Some(whole) = length(self.buffer.get(..self.filled).unwrap_or_default())? else {
            return Ok(None);
        };
        ensure!(self.filled <= whole, "more came than one answer");
        if self.filled < whole {
            return Ok(None);
        }
        self.begun = None;
        Ok(Some(begun.elapsed()))
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
    use std::thread;

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
        let load = OpenLoop { address, request, rate: 100.0, connections: 1, duration, warm_up: 0 };
        let latencies = load.run(None).unwrap();
        assert_eq!(latencies.len(), 100);
        let late = latencies.iter().filter(|latency| **latency > Duration::from_millis(100)).count();
        assert!(late >= 15, "only {late} of the requests that were due in 300 ms count as late");
    }

    #[test]
    fn the_load_can_play_the_upstream_as_well() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".to_vec();
        let mut upstream = Upstream::listen(0, answer).unwrap();
        let address = upstream.address().unwrap().to_string();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec();
        let load = OpenLoop {
            address,
            request,
            rate: 1_000.0,
            connections: 4,
            duration: Duration::from_millis(100),
            warm_up: 2,
        };
        for _ in 0..2 {
            assert_eq!(load.run(Some(&mut upstream)).unwrap().len(), 92);
        }
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&sorted, 0.99), Some(Duration::from_millis(99)));
        assert_eq!(percentile(&sorted, 1.0), Some(Duration::from_millis(100)));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
