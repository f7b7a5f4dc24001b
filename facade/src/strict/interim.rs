//! An upstream's stream that hands out interim answers, and ends when an answer does not come for all of them.
//!
//! hyper skips 1xx answers, however many there are. Everything else that never ends is bounded by its buffer.
//!
//! Invariant: what is read is not changed, and of a final answer only the first ten bytes are looked at.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::strict::Relay;
use crate::strict::grammar::find;

/// Bytes of interim answers before one final answer.
const MOST_INTERIM: usize = 64 * 1024;
/// `HTTP/1.1 1`: where the class of the status stands.
const CLASS: usize = 9;

/// Counts interim answers.
#[derive(Debug)]
pub(crate) struct Interim<S> {
    inner: S,
    state: State,
    /// An interim answer that is not complete.
    partial: Vec<u8>,
    seen: usize,
    relay: Arc<Relay>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Something was sent since the last final answer began.
    Awaiting,
    /// The final answer has begun.
    Answered,
    /// The protocol was switched: the bytes are no longer HTTP.
    Switched,
}

impl<S> Interim<S> {
    pub(crate) fn new(inner: S, relay: Arc<Relay>) -> Self {
        Self { inner, state: State::Answered, partial: Vec::new(), seen: 0, relay }
    }

    fn sent(&mut self) {
        if self.state == State::Answered {
            (self.state, self.seen) = (State::Awaiting, 0);
        }
    }

    fn received(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.partial.is_empty() && is_final(bytes) == Some(true) {
            self.state = State::Answered;
            return Ok(());
        }
        self.partial.extend_from_slice(bytes);
        while let Some(is_final) = is_final(&self.partial) {
            let is_switch = self.partial.get(CLASS..).is_some_and(|rest| rest.starts_with(b"101"));
            if is_final || is_switch {
                self.state = if is_switch { State::Switched } else { State::Answered };
                self.partial = Vec::new();
                return Ok(());
            }
            let Some(end) = find(&self.partial, b"\r\n\r\n") else { break };
            let head: Vec<u8> = self.partial.drain(..end + 4).collect();
            self.seen += head.len();
            // A 100 is for whoever waits to send a body; hyper tells.
            if !head.get(CLASS..).is_some_and(|rest| rest.starts_with(b"100")) {
                self.relay.put(&head);
            }
        }
        if self.seen + self.partial.len() > MOST_INTERIM {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "interim answers without end"));
        }
        Ok(())
    }
}

/// Unknown while the class of the status is not there.
fn is_final(head: &[u8]) -> Option<bool> {
    let begins_alike = head.iter().zip(b"HTTP/1.").all(|(found, expected)| found == expected);
    if !begins_alike {
        // hyper says what is wrong with it.
        return Some(true);
    }
    let class = head.get(CLASS)?;
    // `101` needs two bytes more.
    if *class == b'1' && head.len() < CLASS + 3 { None } else { Some(*class != b'1') }
}

impl<S: AsyncRead + Unpin> AsyncRead for Interim<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if this.state == State::Awaiting {
            this.received(buf.filled().get(before..).unwrap_or_default())?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Interim<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.sent();
        Pin::new(&mut this.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // What has no body is one piece, for which the kernel has a shorter way.
        if let [only] = pieces {
            return self.poll_write(cx, only);
        }
        let this = self.get_mut();
        this.sent();
        Pin::new(&mut this.inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINT: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    const FINAL: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

    fn after(pieces: &[&[u8]]) -> State {
        let mut interim = Interim::new((), Arc::default());
        interim.sent();
        pieces.iter().for_each(|piece| interim.received(piece).unwrap());
        interim.state
    }

    #[test]
    fn the_final_answer_is_found_behind_interim_ones_however_they_are_cut() {
        assert_eq!(after(&[FINAL]), State::Answered);
        assert_eq!(after(&[HINT]), State::Awaiting);
        let all = [HINT, HINT, FINAL].concat();
        for cut in 1..all.len() - FINAL.len() {
            assert_eq!(after(&[&all[..cut], &all[cut..]]), State::Answered, "{cut}");
        }
        assert_eq!(after(&[b"HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 1"]), State::Switched);
        assert_eq!(after(&[b"HTTP/1.1 10", b"1 Switching"]), State::Switched);
        assert_eq!(after(&[b"garbage"]), State::Answered);
    }

    #[test]
    fn interim_answers_end_at_a_limit_that_counts_for_one_exchange() {
        let mut interim = Interim::new((), Arc::default());
        for _ in 0..10 {
            interim.sent();
            for _ in 0..MOST_INTERIM / HINT.len() {
                interim.received(HINT).unwrap();
            }
            interim.received(FINAL).unwrap();
        }
        interim.sent();
        assert!((0..=MOST_INTERIM / HINT.len()).any(|_| interim.received(HINT).is_err()));
    }
}
