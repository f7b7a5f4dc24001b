//! Chunked framing (RFC 9112 §7.1), the same for requests and for answers.
//!
//! Invariant: it looks at each byte of the framing once, at no byte of a chunk, and copies nothing.

use crate::strict::{Fault, Limits, grammar};

/// What a size line may have beside its extensions without counting: a body may have any number of chunks.
const PLAIN_SIZE_LINE: usize = 16;

/// Follows the bytes of one chunked body.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    state: State,
    /// How far the end of an incomplete line has been looked for.
    searched: usize,
    /// Extensions and trailers so far, in bytes and in lines of trailers.
    framing: usize,
    trailers: usize,
    /// Blanks behind a size are no fault: old servers fill it up to a fixed width.
    may_pad: bool,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers,
}

/// What the bytes begin with, and how many of them it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Nothing that is complete.
    Incomplete,
    /// A size line, or what stands behind a chunk.
    Framing(usize),
    Data(usize),
    /// A line of the trailers, with its CRLF.
    Trailer(usize),
    /// The last of the body.
    End(usize),
}

impl Chunks {
    /// An answer's: what an upstream means is not what the next server reads, since the facade writes chunks of its own.
    pub(crate) fn of_answer() -> Self {
        Self { may_pad: true, ..Self::default() }
    }

    /// The next call begins behind the unit.
    pub(crate) fn next(&mut self, bytes: &[u8], limits: &Limits) -> Result<Unit, Fault> {
        match self.state {
            State::Data(left) => Ok(self.data(bytes, left)),
            State::DataEnd => self.data_end(bytes),
            State::Size | State::Trailers => self.line(bytes, limits),
        }
    }

    fn data(&mut self, bytes: &[u8], mut left: u64) -> Unit {
        let size = within(bytes, &mut left);
        self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
        if size == 0 { Unit::Incomplete } else { Unit::Data(size) }
    }

    fn data_end(&mut self, bytes: &[u8]) -> Result<Unit, Fault> {
        match bytes {
            [b'\r', b'\n', ..] => {
                self.state = State::Size;
                Ok(Unit::Framing(2))
            }
            [b'\r'] | [] => Ok(Unit::Incomplete),
            _ => Err(Fault::bad("a chunk is longer than its size")),
        }
    }

    fn line(&mut self, bytes: &[u8], limits: &Limits) -> Result<Unit, Fault> {
        let found = bytes.get(self.searched..).and_then(|rest| memchr::memchr(b'\n', rest));
        let Some(found) = found else {
            self.searched = bytes.len();
            if self.framing + bytes.len() > limits.head {
                return Err(Fault::bad("a chunk's size line or a trailer is too long"));
            }
            return Ok(Unit::Incomplete);
        };
        let end = self.searched + found;
        self.searched = 0;
        let line = bytes.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(BARE_LF)?;
        self.framing += line.len().saturating_sub(PLAIN_SIZE_LINE);
        if self.framing > limits.head {
            return Err(Fault::bad("the chunk extensions and trailers are too long"));
        }
        match (self.state, line) {
            (State::Trailers, []) => Ok(Unit::End(end + 1)),
            (State::Trailers, _) => self.trailer(line, limits).map(|()| Unit::Trailer(end + 1)),
            _ => self.size(line).map(|()| Unit::Framing(end + 1)),
        }
    }

    fn size(&mut self, line: &[u8]) -> Result<(), Fault> {
        let line = if self.may_pad { grammar::trim(line) } else { line };
        let size =
            grammar::chunk_size(line).ok_or(Fault::bad("a chunk's size is not a hexadecimal number"))?;
        self.state = if size == 0 { State::Trailers } else { State::Data(size) };
        Ok(())
    }

    fn trailer(&mut self, line: &[u8], limits: &Limits) -> Result<(), Fault> {
        self.trailers += 1;
        if self.trailers > limits.fields {
            return Err(Fault::bad("there are too many trailers"));
        }
        let (_, value) = grammar::split_field(line).ok_or(Fault::bad("a trailer is not name and value"))?;
        if !grammar::is_field_text(value) {
            return Err(Fault::bad("a trailer's value has a control character"));
        }
        Ok(())
    }
}

/// What a line is refused for that ends in another way than with CR and LF.
pub(crate) const BARE_LF: Fault = Fault::bad("a line does not end with CR and LF");

/// How many of the bytes lie within what is left of a body; so much less is left behind them.
pub(crate) fn within(bytes: &[u8], left: &mut u64) -> usize {
    let size = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *left = left.saturating_sub(u64::try_from(size).unwrap_or(*left));
    size
}
