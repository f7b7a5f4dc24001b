//! One connection to an upstream.
//!
//! There is no client library behind it: the task that waits for an answer writes the request and reads the answer itself
//! (`outgoing.rs`, `incoming.rs`). A task per connection would be woken for each request and each answer, over
//! channels that nobody needs who does both.
//!
//! Invariant: what was read and is no part of an answer yet stays in the inbox; a connection whose inbox is not empty
//! between two exchanges, or that has something to read then, serves no other.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use http::response;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::strict::answers::Heads;

/// Bytes that are asked for at once: at first, and when answers are long.
const FIRST_READ: usize = 8 * 1024;
const LARGEST_READ: usize = 64 * 1024;
/// With less room than this, a read waits until there is more.
const LEAST_ROOM: usize = 1024;

/// A connection on which requests are sent one after the other.
#[derive(Debug)]
pub(crate) struct Connection {
    reader: OwnedReadHalf,
    /// None once a task of its own sends what the client still sends.
    pub(crate) writer: Option<OwnedWriteHalf>,
    pub(crate) inbox: BytesMut,
    heads: Heads,
    /// Bytes that the next read asks for.
    appetite: usize,
    /// Whether it may serve another exchange after this one.
    pub(crate) keeps: bool,
    pub(crate) alarm: Alarm,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self {
            reader,
            writer: Some(writer),
            inbox: BytesMut::new(),
            heads: Heads::default(),
            appetite: FIRST_READ,
            keeps: true,
            alarm: Alarm::default(),
        }
    }

    /// Whether the last exchange has left it as it was before.
    pub(crate) fn is_reusable(&self) -> bool {
        self.keeps && self.writer.is_some() && self.inbox.is_empty()
    }

    /// Lets go of what only the last exchange needed.
    pub(crate) fn rest(&mut self) {
        self.heads = Heads::default();
        if self.appetite > FIRST_READ {
            (self.inbox, self.appetite) = (BytesMut::new(), FIRST_READ);
        }
    }

    /// Whether the other end has neither closed nor said anything unasked.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.poll_fill(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// The next head of an answer, interim or final.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<response::Parts>> {
        loop {
            if let Some(parts) = self.heads.read(&mut self.inbox).map_err(invalid)? {
                return Poll::Ready(Ok(parts));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                let reason = "it closed the connection before its answer was complete";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason)));
            }
        }
    }

    /// Reads what is there into the inbox; nothing at the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.inbox.capacity() - self.inbox.len() < LEAST_ROOM {
            self.inbox.reserve(self.appetite);
        }
        let room = self.inbox.capacity() - self.inbox.len();
        let read = ready!(pin!(self.reader.read_buf(&mut self.inbox)).poll(cx))?;
        self.appetite = match read {
            _ if read == room => LARGEST_READ.min(self.appetite * 2),
            _ if read < self.appetite / 4 => FIRST_READ.max(self.appetite / 2),
            _ => self.appetite,
        };
        Poll::Ready(Ok(read))
    }

    /// Both halves, and what was read in advance.
    pub(crate) fn into_parts(self) -> (OwnedReadHalf, Option<OwnedWriteHalf>, BytesMut) {
        (self.reader, self.writer, self.inbox)
    }
}

/// What an upstream sends and is no HTTP.
pub(crate) fn invalid(fault: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}

/// Rings once an exchange takes too long. It is set anew only where it would ring too late, or has rung too early: most
/// exchanges end long before, and to set a timer for each costs more than to hear one that is not meant now and then.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    pub(crate) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_alarm_of_an_exchange_rings_at_its_own_deadline() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // Exchanges that were answered in time.
        for deadline in [50, 80, 30] {
            assert!(alarm.poll(at(deadline), &mut Context::from_waker(Waker::noop())).is_pending());
        }
        poll_fn(|cx| alarm.poll(at(200), cx)).await;
        assert_eq!(start.elapsed().as_millis(), 200);
        poll_fn(|cx| alarm.poll(at(250), cx)).await;
        assert_eq!(start.elapsed().as_millis(), 250);
    }
}
