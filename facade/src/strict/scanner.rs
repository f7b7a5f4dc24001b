//! Where one request ends and the next begins: heads, bodies by length, chunks, trailers.
//!
//! Invariant: it looks at each byte of a head or of chunked framing once, at no byte of a body, and copies nothing.

use crate::strict::head::{Framing, Head, Message};
use crate::strict::{Fault, Limits, grammar};

/// Follows the bytes of a connection. A unit is a head, a piece of a body, a chunk's size line, or a trailer line.
#[derive(Debug)]
pub(crate) struct Scanner {
    limits: Limits,
    state: State,
    head: Head,
    /// Of the unit that is not complete: where its last line begins, and how far its end has been looked for.
    line: usize,
    searched: usize,
    /// Size lines and trailers of this body so far, in bytes and in lines of trailers.
    framing: usize,
    trailers: usize,
    heads: u64,
    /// Of the request that is being read.
    asks_to_upgrade: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Head,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
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
            line: 0,
            searched: 0,
            framing: 0,
            trailers: 0,
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
            State::Body(left) => Ok(self.skip(bytes, left, State::Body, State::Head)),
            State::Chunk(left) => Ok(self.skip(bytes, left, State::Chunk, State::ChunkEnd)),
            State::ChunkSize => self.framing_line(bytes, Self::chunk_size),
            State::ChunkEnd => self.chunk_end(bytes),
            State::Trailers => self.framing_line(bytes, Self::trailer),
        }
    }

    fn skip(&mut self, bytes: &[u8], left: u64, more: fn(u64) -> State, next: State) -> Unit {
        let size = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let left = left.saturating_sub(u64::try_from(size).unwrap_or(left));
        self.state = if left == 0 { next } else { more(left) };
        Unit::Complete(size)
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
        (self.framing, self.trailers) = (0, 0);
        self.state = match message.body {
            Framing::Length(0) => State::Head,
            Framing::Length(length) => State::Body(length),
            Framing::Chunked => State::ChunkSize,
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
        line.strip_suffix(b"\r").map(Some).ok_or(Fault::bad("a line does not end with CR and LF"))
    }

    fn framing_line(
        &mut self,
        bytes: &[u8],
        read: fn(&mut Self, &[u8]) -> Result<State, Fault>,
    ) -> Result<Unit, Stop> {
        let Some(line) = self.next_line(bytes).map_err(Stop::Body)? else {
            if self.framing + bytes.len() > self.limits.head {
                return Err(Stop::Body(Fault::bad("a chunk's size line or a trailer is too long")));
            }
            return Ok(Unit::Incomplete);
        };
        let size = self.line;
        (self.line, self.searched) = (0, 0);
        self.state = read(self, line).map_err(Stop::Body)?;
        // Plain size lines do not count: a body may have any number of chunks.
        self.framing += line.len().saturating_sub(16);
        if self.framing > self.limits.head {
            return Err(Stop::Body(Fault::bad("the chunk extensions and trailers are too long")));
        }
        Ok(Unit::Complete(size))
    }

    fn chunk_size(&mut self, line: &[u8]) -> Result<State, Fault> {
        match grammar::chunk_size(line) {
            None => Err(Fault::bad("a chunk's size is not a hexadecimal number")),
            Some(0) => Ok(State::Trailers),
            Some(size) => Ok(State::Chunk(size)),
        }
    }

    fn chunk_end(&mut self, bytes: &[u8]) -> Result<Unit, Stop> {
        match bytes {
            [b'\r', b'\n', ..] => {
                self.state = State::ChunkSize;
                Ok(Unit::Complete(2))
            }
            [b'\r'] => Ok(Unit::Incomplete),
            _ => Err(Stop::Body(Fault::bad("a chunk is longer than its size"))),
        }
    }

    fn trailer(&mut self, line: &[u8]) -> Result<State, Fault> {
        if line.is_empty() {
            return Ok(State::Head);
        }
        self.trailers += 1;
        if self.trailers > self.limits.fields {
            return Err(Fault::bad("there are too many trailers"));
        }
        let (name, value) =
            grammar::split_field(line).ok_or(Fault::bad("a trailer is not name and value"))?;
        if !grammar::is_field_text(value) {
            return Err(Fault::bad("a trailer's value has a control character"));
        }
        let forbidden: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];
        if forbidden.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
            return Err(Fault::bad("a trailer says how the message is framed or routed"));
        }
        Ok(State::Trailers)
    }
}

#[cfg(test)]
mod tests;
