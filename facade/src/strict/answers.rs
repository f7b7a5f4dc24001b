//! The head of an upstream's answer, read by RFC 9112 to the letter, and what it says of the body (§6.3).
//!
//! Invariant: an answer that passes has a status and one framing; a client's reader and ours agree on its end. A line
//! that ends with a bare LF is never taken for one: that is how a line break that slipped into a value becomes a header.

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Response, StatusCode, Version, response};
use hyper::ext::ReasonPhrase;

use crate::headers::lists;
use crate::strict::grammar::{self, trim};

/// What lies beyond is to be taken for a failure of the server (RFC 9110 §15).
const HIGHEST_STATUS: u16 = 599;
/// Bytes of one head, and of all interim answers before a final one.
const MOST_HEAD: usize = 256 * 1024;
const MOST_INTERIM: usize = 64 * 1024;
const MOST_FIELDS: usize = 100;
const PREFIX: &[u8] = b"HTTP/1.";

/// Reads one exchange's heads: those of interim answers, then that of the final one.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    /// Of the head that is not complete: where its last line begins, and how far its end has been looked for.
    line: usize,
    searched: usize,
    interim: usize,
}

/// How an answer's body tells where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    /// With the connection.
    Close,
}

impl Heads {
    /// Takes a head that is there whole. What is wrong with it is said in words that follow the upstream's name.
    pub(crate) fn read(&mut self, inbox: &mut BytesMut) -> Result<Option<response::Parts>, &'static str> {
        if !inbox.iter().zip(PREFIX).all(|(found, expected)| found == expected) {
            return Err("its answer does not begin with a version of HTTP/1");
        }
        let Some(end) = self.end(inbox)? else {
            return match inbox.len() > MOST_HEAD {
                true => Err("its answer's head is too long"),
                false => Ok(None),
            };
        };
        (self.line, self.searched) = (0, 0);
        let parts = parts(&inbox.split_to(end).freeze())?;
        if parts.status.is_informational() && parts.status != StatusCode::SWITCHING_PROTOCOLS {
            self.interim += end;
            if self.interim > MOST_INTERIM {
                return Err("interim answers without end");
            }
        }
        Ok(Some(parts))
    }

    /// Where the empty line ends.
    fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, &'static str> {
        let unread = bytes.get(self.searched..).unwrap_or_default();
        for found in memchr::memchr_iter(b'\n', unread) {
            let end = self.searched + found;
            match bytes.get(self.line..end) {
                Some(b"\r") => return Ok(Some(end + 1)),
                Some([.., b'\r']) => self.line = end + 1,
                _ => return Err("a line of its answer's head ends with a bare LF"),
            }
        }
        self.searched = bytes.len();
        Ok(None)
    }
}

/// Of a head with its last line.
fn parts(head: &Bytes) -> Result<response::Parts, &'static str> {
    let (mut parts, ()) = Response::new(()).into_parts();
    let (mut start, mut fields) = (0, 0);
    for end in memchr::memchr_iter(b'\n', head) {
        let line = head.get(start..end).and_then(|line| line.strip_suffix(b"\r")).unwrap_or_default();
        if start == 0 {
            status_line(line, &mut parts)?;
        } else if !line.is_empty() {
            fields += 1;
            if fields > MOST_FIELDS {
                return Err("its answer has too many header lines");
            }
            field(head, line, &mut parts.headers)?;
        }
        start = end + 1;
    }
    Ok(parts)
}

fn status_line(line: &[u8], parts: &mut response::Parts) -> Result<(), &'static str> {
    let (version, code, reason) = match line.strip_prefix(PREFIX) {
        Some([version, b' ', a, b, c]) => (version, [*a, *b, *c], [].as_slice()),
        Some([version, b' ', a, b, c, b' ', reason @ ..]) => (version, [*a, *b, *c], reason),
        _ => return Err("its answer's status line is not version, status and reason"),
    };
    parts.version = match version {
        b'1' => Version::HTTP_11,
        b'0' => Version::HTTP_10,
        _ => return Err("its answer does not begin with a version of HTTP/1"),
    };
    parts.status = StatusCode::from_bytes(&code).map_err(|_| "its answer's status is not a number")?;
    if parts.status.as_u16() > HIGHEST_STATUS {
        return Err("its answer's status is beyond 599");
    }
    if !grammar::is_field_text(reason) {
        return Err("its answer's reason has a control character");
    }
    if parts.status.canonical_reason().is_none_or(|usual| usual.as_bytes() != reason)
        && let Ok(reason) = ReasonPhrase::try_from(reason)
    {
        parts.extensions.insert(reason);
    }
    Ok(())
}

fn field(head: &Bytes, line: &[u8], headers: &mut HeaderMap) -> Result<(), &'static str> {
    let bad_name = "a header's name in its answer is not a word with a colon right behind it";
    let colon = memchr::memchr(b':', line).ok_or(bad_name)?;
    let (name, value) = line.split_at(colon);
    let name = HeaderName::from_bytes(name).map_err(|_| bad_name)?;
    let value = head.slice_ref(trim(value.get(1..).unwrap_or_default()));
    let value = HeaderValue::from_maybe_shared(value)
        .map_err(|_| "a header's value in its answer has a control character")?;
    headers.append(name, value);
    Ok(())
}

/// Where the body ends of an answer to a method other than HEAD, or why that cannot be known.
pub(crate) fn framing(parts: &response::Parts) -> Result<Framing, &'static str> {
    let length = single(&parts.headers)?;
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    let framing = match (codings.next(), length) {
        (None, None) => Framing::Close,
        (None, Some(length)) => Framing::Length(length),
        (Some(_), Some(_)) => return Err("its answer has a Content-Length beside a Transfer-Encoding"),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        (Some(_), None) => return Err("its answer has a transfer coding other than chunked"),
    };
    match (framing, codings.next(), parts.version) {
        (_, Some(_), _) => Err("its answer has more than one Transfer-Encoding"),
        (Framing::Chunked, _, Version::HTTP_10) => Err("its answer of HTTP/1.0 has a Transfer-Encoding"),
        _ => Ok(framing),
    }
}

/// The length, of which there is one at most, and a number.
fn single(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err("its answer has more than one Content-Length");
    }
    grammar::length(length.as_bytes()).map(Some).ok_or("its answer's Content-Length is not a number")
}

/// Whether the connection stays open behind the answer (RFC 9112 §9.3).
pub(crate) fn keeps_alive(parts: &response::Parts) -> bool {
    let says = |word| parts.headers.get_all(CONNECTION).iter().any(|options| lists(options, word));
    match parts.version {
        Version::HTTP_11 => !says("close"),
        _ => says("keep-alive") && !says("close"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINT: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    const FINAL: &[u8] = b"HTTP/1.1 200 Fine\r\nA: b\r\na:\t c \r\n\r\n";

    /// The statuses that are read of pieces that come one after the other, and what is left.
    fn after(pieces: &[&[u8]]) -> Result<(Vec<u16>, Vec<u8>), &'static str> {
        let (mut heads, mut inbox, mut found) = (Heads::default(), BytesMut::new(), Vec::new());
        for piece in pieces {
            inbox.extend_from_slice(piece);
            while found.last().is_none_or(|status| *status < 200)
                && let Some(parts) = heads.read(&mut inbox)?
            {
                found.push(parts.status.as_u16());
            }
        }
        Ok((found, inbox.to_vec()))
    }

    #[test]
    fn the_final_answer_is_found_behind_interim_ones_however_they_are_cut() {
        let all = [HINT, HINT, FINAL, b"\nbody\n"].concat();
        for cut in 0..all.len() {
            let (found, rest) = after(&[&all[..cut], &all[cut..]]).unwrap();
            assert_eq!((found, rest.as_slice()), (vec![103, 103, 200], b"\nbody\n".as_slice()), "{cut}");
        }
        assert!(after(&[b"garbage"]).is_err());
        assert!(after(&[b"HT", b"ML"]).is_err());
    }

    #[test]
    fn a_bare_lf_is_found_in_every_head_however_it_is_cut() {
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
                let (begun, rest) = bad.as_bytes().split_at(cut);
                assert!(after(&[begun, rest]).is_err(), "{bad:?} {cut}");
            }
        }
    }

    #[test]
    fn interim_answers_end_at_a_limit_that_counts_for_one_exchange() {
        let most = MOST_INTERIM / HINT.len();
        assert_eq!(after(&vec![HINT; most]).unwrap().0.len(), most);
        assert!(after(&vec![HINT; most + 1]).is_err());
    }

    #[test]
    fn a_head_says_what_it_says_and_keeps_its_order_and_its_own_reason() {
        let parts = Heads::default().read(&mut FINAL.into()).unwrap().unwrap();
        assert_eq!(parts.headers.get_all("a").iter().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(parts.extensions.get::<ReasonPhrase>().unwrap().as_bytes(), b"Fine");
        let usual = Heads::default().read(&mut b"HTTP/1.0 404 Not Found\r\n\r\n".as_slice().into());
        let usual = usual.unwrap().unwrap();
        assert!(usual.extensions.get::<ReasonPhrase>().is_none());
        assert_eq!((usual.version, keeps_alive(&usual)), (Version::HTTP_10, false));
    }

    #[test]
    fn malformed_heads_do_not_pass() {
        for bad in [
            "HTTP/1.2 200 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
            "HTTP/1.1 099 X\r\n\r\n",
            "HTTP/1.1 600 X\r\n\r\n",
            "HTTP/1.1 200 a\rb\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\n b: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnothing\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
        ] {
            assert!(after(&[bad.as_bytes()]).is_err(), "{bad:?}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(MOST_FIELDS + 1));
        assert!(after(&[many.as_bytes()]).is_err());
        assert!(after(&[b"HTTP/1.1 200 OK\r\nA: ", &vec![b'a'; MOST_HEAD]]).is_err());
    }
}
