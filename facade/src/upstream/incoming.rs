//! An answer's body as it comes over an upstream's connection.
//!
//! Invariant: a body that breaks off, or is framed wrongly, ends with an error and never looks whole.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};

use crate::strict::Limits;
use crate::strict::answers::Framing;
use crate::strict::chunks::{Chunks, Unit, within};
use crate::strict::grammar;
use crate::upstream::connection::{Connection, invalid};

/// Of a body in chunks: bytes of all extensions and trailers, and lines of trailers.
const LIMITS: Limits = Limits { target: 0, head: 16 * 1024, fields: 100 };

/// What is still to come.
#[derive(Debug)]
pub(crate) enum Incoming {
    Nothing,
    Length(u64),
    Chunked(Box<(Chunks, HeaderMap)>),
    UntilClose,
}

impl From<Framing> for Incoming {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::Nothing,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Box::new((Chunks::of_answer(), HeaderMap::new()))),
            Framing::Close => Self::UntilClose,
        }
    }
}

impl Incoming {
    pub(crate) fn is_read(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Length(left) => SizeHint::with_exact(*left),
            Self::Chunked(_) | Self::UntilClose => SizeHint::default(),
        }
    }

    /// The next piece.
    pub(crate) fn poll_frame(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            if let Some(frame) = self.take(&mut connection.inbox)? {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.is_read() {
                return Poll::Ready(None);
            }
            if ready!(connection.poll_fill(cx))? == 0 {
                let broke_off = !matches!(self, Self::UntilClose);
                *self = Self::Nothing;
                let error = || io::Error::new(io::ErrorKind::UnexpectedEof, "the answer's body broke off");
                return Poll::Ready(broke_off.then(|| Err(error())));
            }
        }
    }

    fn take(&mut self, inbox: &mut BytesMut) -> io::Result<Option<Frame<Bytes>>> {
        if inbox.is_empty() {
            return Ok(None);
        }
        let size = match self {
            Self::Nothing => return Ok(None),
            Self::UntilClose => inbox.len(),
            Self::Length(left) => {
                let size = within(inbox, left);
                if *left == 0 {
                    *self = Self::Nothing;
                }
                size
            }
            Self::Chunked(body) => {
                let (chunks, trailers) = &mut **body;
                let taken = chunk(chunks, trailers, inbox)?;
                if let Taken::End = taken {
                    let trailers = std::mem::take(trailers);
                    *self = Self::Nothing;
                    return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
                }
                let Taken::Data(size) = taken else { return Ok(None) };
                size
            }
        };
        Ok(Some(Frame::data(inbox.split_to(size).freeze())))
    }
}

enum Taken {
    Nothing,
    Data(usize),
    End,
}

/// Passes over framing, up to the next data.
fn chunk(chunks: &mut Chunks, trailers: &mut HeaderMap, inbox: &mut BytesMut) -> io::Result<Taken> {
    loop {
        match chunks.next(inbox, &LIMITS).map_err(|fault| invalid(fault.detail))? {
            Unit::Incomplete => return Ok(Taken::Nothing),
            Unit::Data(size) => return Ok(Taken::Data(size)),
            Unit::Framing(size) => drop(inbox.split_to(size)),
            Unit::Trailer(size) => {
                let line = inbox.split_to(size);
                let (name, value) = field(&line).ok_or_else(|| invalid("a trailer is not name and value"))?;
                trailers.append(name, value);
            }
            Unit::End(size) => {
                drop(inbox.split_to(size));
                return Ok(Taken::End);
            }
        }
    }
}

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = grammar::split_field(line.strip_suffix(b"\r\n")?)?;
    Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(grammar::trim(value)).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken of pieces that arrive one after the other, and whether the body has ended.
    fn taken(framing: Framing, pieces: &[&[u8]]) -> io::Result<(Vec<u8>, Option<HeaderMap>, bool)> {
        let (mut incoming, mut inbox) = (Incoming::from(framing), BytesMut::new());
        let (mut body, mut trailers) = (Vec::new(), None);
        for piece in pieces {
            inbox.extend_from_slice(piece);
            while let Some(frame) = incoming.take(&mut inbox)? {
                match frame.into_data() {
                    Ok(data) => body.extend_from_slice(&data),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                }
            }
        }
        Ok((body, trailers, incoming.is_read()))
    }

    #[test]
    fn a_body_in_chunks_is_the_same_however_it_is_cut() {
        let wire =
            b"5;a=b\r\nhello\r\n1  \r\n \r\n00A\r\n0123456789\r\n0\r\nX-Sum: 1 \r\nx-sum:2\r\n\r\nHTTP";
        let end = wire.len() - 4;
        for cut in 0..wire.len() {
            let (body, trailers, is_read) = taken(Framing::Chunked, &[&wire[..cut], &wire[cut..]]).unwrap();
            assert_eq!((body.as_slice(), is_read), (b"hello 0123456789".as_slice(), true), "{cut}");
            let trailers = trailers.unwrap();
            assert_eq!(trailers.get_all("x-sum").iter().collect::<Vec<_>>(), ["1", "2"], "{cut}");
            let (_, _, is_read) = taken(Framing::Chunked, &[&wire[..cut]]).unwrap();
            assert_eq!(is_read, cut >= end, "{cut}");
        }
    }

    #[test]
    fn a_body_with_a_length_takes_no_more_than_that() {
        let (body, _, is_read) = taken(Framing::Length(3), &[b"a", b"bcHTTP/1.1"]).unwrap();
        assert_eq!((body.as_slice(), is_read), (b"abc".as_slice(), true));
        let (body, _, is_read) = taken(Framing::Close, &[b"a", b"bc"]).unwrap();
        assert_eq!((body.as_slice(), is_read), (b"abc".as_slice(), false));
        assert!(taken(Framing::Length(0), &[b"x"]).unwrap().2);
    }

    #[test]
    fn wrong_chunks_are_no_end() {
        for bad in ["x\r\n", "1\r\nab\r\n", "1\na\r\n", "0\r\nno trailer\r\n\r\n", "0\r\n: x\r\n\r\n"] {
            assert!(taken(Framing::Chunked, &[bad.as_bytes()]).is_err(), "{bad:?}");
        }
        let endless = vec![b'1'; LIMITS.head + 1];
        assert!(taken(Framing::Chunked, &[&endless]).is_err());
    }
}
