//! Where one request ends and the next begins: heads, bodies by length, chunks, trailers.
//!
//! Invariant: it looks at each byte of a head or of chunked framing once, at no byte of a body, and copies nothing.

use crate::strict::chunks::{self, BARE_LF, Chunks, within};
use crate::strict::head::{Framing, Head, Message};
use crate::strict::{Fault, Limits};

/// Follows the bytes of a connection. A unit is a head, a piece of a body, a chunk's size line, or a trailer line.
#[derive(Debug)]
pub(crate) struct Scanner {
    limits: Limits,
    state: State,
    head: Head,
    /// Of a body in chunks.
    chunks: Chunks,
    /// Of the head that is not complete: where its last line begins, and how far its end has been looked for.
    line: usize,
    searched: usize,
    heads: u64,
    /// Of the request that is being read.
    asks_to_upgrade: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Head,
    Body(u64),
    Chunks,
}

/// Why the reading stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The last request asks to upgrade: its answer decides what follows.
    Upgrade,
    /// The request that begins here is refused; to HEAD without a body.
    Head { fault: Fault, is_head: bool },
    /// The body of a request that has begun is not framed well.
    Body(Fault),
}

enum Unit {
    Complete(usize),
    Incomplete,
}

impl Scanner {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Head,
            head: Head::default(),
            chunks: Chunks::default(),
            line: 0,
            searched: 0,
            heads: 0,
            asks_to_upgrade: false,
        }
    }

    /// Heads that have passed.
    pub(crate) fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the last message has ended; the next may have begun.
    pub(crate) fn is_between(&self) -> bool {
        matches!(self.state, State::Head)
    }

    /// How many of the bytes belong to complete units. The next call begins with the others.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> (usize, Option<Stop>) {
        let mut passed = 0;
        while let Some(rest) = bytes.get(passed..).filter(|rest| !rest.is_empty()) {
            match self.unit(rest) {
                Ok(Unit::Incomplete) => break,
                Ok(Unit::Complete(size)) => passed += size,
                Err(stop) => return (passed, Some(stop)),
            }
            if self.asks_to_upgrade && matches!(self.state, State::Head) {
                self.asks_to_upgrade = false;
                return (passed, Some(Stop::Upgrade));
            }
        }
        (passed, None)
    }

    fn unit(&mut self, bytes: &[u8]) -> Result<Unit, Stop> {
        match self.state {
            State::Head => self.read_head(bytes),
            State::Body(left) => Ok(self.body(bytes, left)),
            State::Chunks => self.chunks(bytes).map_err(Stop::Body),
        }
    }

    fn body(&mut self, bytes: &[u8], mut left: u64) -> Unit {
        let size = within(bytes, &mut left);
        self.state = if left == 0 { State::Head } else { State::Body(left) };
        Unit::Complete(size)
    }

    fn chunks(&mut self, bytes: &[u8]) -> Result<Unit, Fault> {
        Ok(match self.chunks.next(bytes, &self.limits)? {
            chunks::Unit::Incomplete => Unit::Incomplete,
            chunks::Unit::Framing(size) | chunks::Unit::Data(size) => Unit::Complete(size),
            chunks::Unit::Trailer(size) => {
                check_trailer(bytes.get(..size).unwrap_or_default())?;
                Unit::Complete(size)
            }
            chunks::Unit::End(size) => {
                self.state = State::Head;
                Unit::Complete(size)
            }
        })
    }

    fn read_head(&mut self, bytes: &[u8]) -> Result<Unit, Stop> {
        match self.head_lines(bytes) {
            Ok(None) => Ok(Unit::Incomplete),
            Ok(Some(message)) => Ok(self.begin(message)),
            Err(fault) => Err(Stop::Head { fault, is_head: self.head.is_head() }),
        }
    }

    fn head_lines(&mut self, bytes: &[u8]) -> Result<Option<Message>, Fault> {
        while let Some(line) = self.next_line(bytes)? {
            let message = self.head.line(line, &self.limits)?;
            self.head.may_grow(self.line, &self.limits)?;
            if message.is_some() {
                return Ok(message);
            }
        }
        self.head.may_grow(bytes.len(), &self.limits)?;
        Ok(None)
    }

    fn begin(&mut self, message: Message) -> Unit {
        let size = self.line;
        (self.line, self.searched, self.head) = (0, 0, Head::default());
        self.state = match message.body {
            Framing::Length(0) => State::Head,
            Framing::Length(length) => State::Body(length),
            Framing::Chunked => {
                self.chunks = Chunks::default();
                State::Chunks
            }
        };
        self.asks_to_upgrade = message.asks_to_upgrade;
        self.heads = self.heads.wrapping_add(1);
        Unit::Complete(size)
    }

    /// A line without its CRLF, if it is there whole.
    fn next_line<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<&'b [u8]>, Fault> {
        let found = bytes.get(self.searched..).and_then(|rest| memchr::memchr(b'\n', rest));
        let Some(found) = found else {
            self.searched = bytes.len();
            return Ok(None);
        };
        let end = self.searched + found;
        let line = bytes.get(self.line..end).unwrap_or_default();
        (self.line, self.searched) = (end + 1, end + 1);
        line.strip_suffix(b"\r").map(Some).ok_or(BARE_LF)
    }
}

/// What upstreams may merge into the headers; of an answer such trailers are dropped.
fn check_trailer(line: &[u8]) -> Result<(), Fault> {
    let (name, _) = line.split_at(memchr::memchr(b':', line).unwrap_or(line.len()));
    let forbidden: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];
    if forbidden.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
        return Err(Fault::bad("a trailer says how the message is framed or routed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
