//! Rows as the tuples of a binary COPY stream.
//!
//! Invariant: the bytes hold whole tuples only, without the stream's header and trailer, and `count` is their number.

use std::io::{self, Write};

use twox_hash::XxHash3_64;

use crate::engine::Rows;

/// Signature, flags and the length of the header's extension, which PostgreSQL leaves empty.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Bytes written at once: the client copies each piece, and the server works while the next one is under way.
const PIECE: usize = 1 << 16;
/// A tuple with -1 fields.
const TRAILER: &[u8] = b"\xff\xff";

/// Rows or keys on their way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyRows {
    tuples: Vec<u8>,
    count: u64,
}

impl Rows for CopyRows {
    fn len(&self) -> u64 {
        self.count
    }

    fn bytes(&self) -> u64 {
        self.tuples.len() as u64
    }

    fn hash(&self) -> u64 {
        XxHash3_64::oneshot(&self.tuples)
    }
}

impl CopyRows {
    /// How many rows, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.count, self.tuples.len() as u64)
    }

    /// Takes a whole stream.
    pub(super) fn from_stream(mut stream: Vec<u8>) -> io::Result<Self> {
        if !stream.starts_with(HEADER) {
            return Err(broken("it has another header"));
        }
        stream.drain(..HEADER.len());
        let (count, end) = walk(&stream);
        stream.truncate(end.ok_or_else(|| broken("it ends early"))?);
        Ok(Self { tuples: stream, count })
    }

    /// How many tuples the beginning of a stream holds as a whole.
    pub(super) fn whole_tuples(stream: &[u8]) -> u64 {
        walk(stream.get(HEADER.len()..).unwrap_or_default()).0
    }

    /// Writes a whole stream.
    pub(super) fn write_stream(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(HEADER)?;
        self.tuples.chunks(PIECE).try_for_each(|piece| to.write_all(piece))?;
        to.write_all(TRAILER)
    }
}

/// How many tuples there are as a whole, and where their trailer begins, if the stream comes so far.
fn walk(bytes: &[u8]) -> (u64, Option<usize>) {
    let (mut count, mut at) = (0, 0);
    loop {
        match behind_tuple(bytes, at) {
            Some(next) if next == at => return (count, Some(at)),
            Some(next) if next <= bytes.len() => (count, at) = (count + 1, next),
            _ => return (count, None),
        }
    }
}

/// Where the tuple that begins at a place ends; at that place if the trailer stands there.
fn behind_tuple(bytes: &[u8], mut at: usize) -> Option<usize> {
    let fields = i16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?);
    if fields < 0 {
        return Some(at);
    }
    at += 2;
    for _ in 0..fields {
        let length = i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
        // NULL has the length -1 and no bytes.
        at += 4 + usize::try_from(length).unwrap_or(0);
    }
    Some(at)
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server's COPY stream is not understood: {what}"))
}
