//! An upstream's stream that hands out interim answers, and ends when an answer does not come for all of them, or when
//! a head has a line that ends with a bare LF.
//!
//! hyper skips 1xx answers, however many there are; everything else that never ends is bounded by its buffer. It takes
//! a bare LF for the end of a line, which is how a line break that slipped into a value becomes a header of its own.
//!
//! Invariant: what is read is not changed, and of a final answer only the ends of its head's lines are looked at.

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
    /// What follows the head that is being read.
    behind: State,
    lines: Lines,
    /// An interim answer that is not complete.
    partial: Vec<u8>,
    seen: usize,
    relay: Arc<Relay>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// An exchange has begun, and no final answer yet.
    Awaiting,
    /// The head of the final answer has begun.
    Head,
    /// It has ended.
    Answered,
    /// The protocol was switched: the bytes are no longer HTTP.
    Switched,
}

/// The lines of a head, of which one may have come in part.
#[derive(Debug, Default)]
struct Lines {
    length: usize,
    last: u8,
}

impl Lines {
    /// Whether the head ends within these bytes.
    fn read(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let line = bytes.get(start..end).unwrap_or_default();
            if *line.last().unwrap_or(&self.last) != b'\r' {
                return Err(invalid("a line of its answer's head ends with a bare LF"));
            }
            if self.length + line.len() == 1 {
                return Ok(true);
            }
            (start, *self) = (end + 1, Self { length: 0, last: b'\n' });
        }
        let rest = bytes.get(start..).unwrap_or_default();
        self.length += rest.len();
        self.last = *rest.last().unwrap_or(&self.last);
        Ok(false)
    }
}

fn invalid(fault: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}

impl<S> Interim<S> {
    pub(crate) fn new(inner: S, relay: Arc<Relay>) -> Self {
        let (state, behind) = (State::Answered, State::Answered);
        Self { inner, state, behind, lines: Lines::default(), partial: Vec::new(), seen: 0, relay }
    }

    fn head(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.state = if self.lines.read(bytes)? { self.behind } else { State::Head };
        Ok(())
    }

    fn received(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.state == State::Answered && self.relay.has_begun() {
            (self.state, self.behind) = (State::Awaiting, State::Answered);
            (self.lines, self.seen) = (Lines::default(), 0);
        }
        match self.state {
            State::Awaiting => self.answer(bytes),
            State::Head => self.head(bytes),
            State::Answered | State::Switched => Ok(()),
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.partial.is_empty() && is_final(bytes)? == Some(true) {
            return self.head(bytes);
        }
        self.partial.extend_from_slice(bytes);
        while let Some(is_final) = is_final(&self.partial)? {
            let is_switch = self.partial.get(CLASS..).is_some_and(|rest| rest.starts_with(b"101"));
            if is_final || is_switch {
                self.behind = if is_switch { State::Switched } else { State::Answered };
                let begun = std::mem::take(&mut self.partial);
                return self.head(&begun);
            }
            if !Lines::default().read(&self.partial)? {
                break;
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
            return Err(invalid("interim answers without end"));
        }
        Ok(())
    }
}

/// Unknown while the class of the status is not there.
fn is_final(head: &[u8]) -> io::Result<Option<bool>> {
    let begins_alike = head.iter().zip(b"HTTP/1.").all(|(found, expected)| found == expected);
    if !begins_alike {
        return Err(invalid("its answer does not begin with a version of HTTP/1"));
    }
    Ok(match head.get(CLASS) {
        None => None,
        // `101` needs two bytes more.
        Some(b'1') if head.len() < CLASS + 3 => None,
        Some(class) => Some(*class != b'1'),
    })
}

impl<S: AsyncRead + Unpin> AsyncRead for Interim<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        Poll::Ready(this.received(buf.filled().get(before..).unwrap_or_default()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Interim<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
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
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, pieces)
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

    fn awaiting() -> Interim<()> {
        let interim = Interim::new((), Arc::default());
        interim.relay.begin();
        interim
    }

    fn after(pieces: &[&[u8]]) -> State {
        let mut interim = awaiting();
        pieces.iter().for_each(|piece| interim.received(piece).unwrap());
        interim.state
    }

    #[test]
    fn the_final_answer_is_found_behind_interim_ones_however_they_are_cut() {
        assert_eq!(after(&[FINAL]), State::Answered);
        assert_eq!(after(&[HINT]), State::Awaiting);
        let all = [HINT, HINT, FINAL].concat();
        for cut in 1..all.len() {
            assert_eq!(after(&[&all[..cut], &all[cut..]]), State::Answered, "{cut}");
        }
        assert_eq!(after(&[b"HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 1"]), State::Switched);
        assert_eq!(after(&[b"HTTP/1.1 10", b"1 Switching\r\n\r", b"\n\n"]), State::Switched);
        assert!(awaiting().received(b"garbage").is_err());
    }

    #[test]
    fn a_bare_lf_is_found_in_every_head_however_it_is_cut_and_never_behind_it() {
        for bad in [
            "HTTP/1.1 200 OK\nA: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n\n",
            "HTTP/1.1 103 Hints\nA: b\r\n\r\n",
            "HTTP/1.1 103 Hints\r\n\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 101 Switching\r\nA: b\n\n",
            "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nA: b\n\n",
        ] {
            for cut in 0..bad.len() {
                let mut interim = awaiting();
                let (begun, rest) = bad.as_bytes().split_at(cut);
                assert!(
                    interim.received(begun).and_then(|()| interim.received(rest)).is_err(),
                    "{bad:?} {cut}"
                );
            }
        }
        let good = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n\na\nHTTP/1.1 200 OK\n";
        for cut in 0..good.len() {
            assert_eq!(after(&[&good[..cut], &good[cut..]]), State::Answered, "{cut}");
        }
    }

    #[test]
    fn interim_answers_end_at_a_limit_that_counts_for_one_exchange() {
        let mut interim = awaiting();
        for _ in 0..10 {
            interim.relay.begin();
            for _ in 0..MOST_INTERIM / HINT.len() {
                interim.received(HINT).unwrap();
            }
            interim.received(FINAL).unwrap();
        }
        interim.relay.begin();
        assert!((0..=MOST_INTERIM / HINT.len()).any(|_| interim.received(HINT).is_err()));
    }
}
