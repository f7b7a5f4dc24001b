//! An upstream that the thread of the load plays itself: it answers every request at once with the same bytes.
//!
//! A process of its own would compete with the load for a core, and what its answers wait for that would count as the
//! latency of whoever stands between.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result};

/// The end of a request without a body.
const END: &[u8] = b"\r\n\r\n";

/// Where requests come out again.
#[derive(Debug)]
pub struct Upstream {
    listener: TcpListener,
    answer: Vec<u8>,
    connections: Vec<Served>,
}

#[derive(Debug)]
struct Served {
    /// None once it was closed.
    stream: Option<TcpStream>,
    /// What was read of a request that is not whole.
    begun: Vec<u8>,
}

impl Upstream {
    /// Listens at a port of loopback, 0 for any; answers with `answer`, head and all, while a load runs.
    pub fn listen(port: u16, answer: Vec<u8>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, answer, connections: Vec::new() })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    pub(super) fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// The connections, each with its place.
    pub(super) fn streams(&self) -> impl Iterator<Item = (usize, &TcpStream)> {
        let streams = self.connections.iter().map(|served| served.stream.as_ref()).enumerate();
        streams.filter_map(|(place, stream)| Some((place, stream?)))
    }

    /// The next connection that waits, and its place.
    pub(super) fn accept(&mut self) -> Result<Option<(usize, &TcpStream)>> {
        let stream = match self.listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            accepted => accepted.context("cannot accept a connection")?.0,
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        self.connections.push(Served { stream: Some(stream), begun: Vec::new() });
        Ok(self.streams().last())
    }

    /// Answers what has come whole at that place.
    pub(super) fn serve(&mut self, place: usize) -> Result<()> {
        let Some(served) = self.connections.get_mut(place) else { return Ok(()) };
        let Some(stream) = &mut served.stream else { return Ok(()) };
        let mut buffer = [0; 4096];
        let read = match stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Ok(read) if read > 0 => read,
            // If that was wrong, the answers to the load tell.
            _ => {
                served.stream = None;
                return Ok(());
            }
        };
        served.begun.extend_from_slice(buffer.get(..read).unwrap_or_default());
        while let Some(end) = served.begun.windows(END.len()).position(|bytes| bytes == END) {
            served.begun.drain(..end + END.len());
            stream.write_all(&self.answer).context("an answer of the upstream was not taken")?;
        }
        Ok(())
    }
}
