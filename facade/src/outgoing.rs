//! A request on its way to an upstream: written once as text, by which it can be sent again.
//!
//! Invariant: what was read of a client's body stays here until it is written, and a request of which anything was
//! written is sent again only if it has no body.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Method, request};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use crate::body::{BodyFault, RequestBody};
use crate::headers;
use crate::strict::grammar;

/// Bytes that most requests' heads take.
const USUAL_BYTES: usize = 1024;
/// Pieces that are written at once.
const MOST_PIECES: usize = 8;

/// A request as an upstream gets it.
#[derive(Debug)]
pub(crate) struct Outgoing {
    head: Vec<u8>,
    /// Where a host is to be named, in a head that came without one (HTTP/1.0).
    host_at: Option<usize>,
    is_safe: bool,
    /// To HEAD, of which the answer has no body.
    pub(crate) is_head: bool,
    /// The protocols that it asks to switch to.
    pub(crate) protocols: Option<HeaderValue>,
    pub(crate) body: RequestBody,
    framing: Framing,
    /// What was read of the body and waits to be written behind the head.
    pieces: VecDeque<Bytes>,
    /// Bytes of the head that are written.
    written: usize,
}

/// How the body is framed, and whether it has ended.
#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(u64),
    Chunked,
    Ended,
}

/// Why a request is not sent to its end.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The upstream takes no more; it may have answered.
    Upstream,
    Client(BodyFault),
}

impl Outgoing {
    /// Its target has to be in origin form.
    pub(crate) fn new(parts: &request::Parts, protocols: Option<HeaderValue>, body: RequestBody) -> Self {
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| grammar::length(value.as_bytes()));
        let framing = match (&body, length) {
            (RequestBody::Empty, None | Some(0)) => Framing::Ended,
            (_, Some(length)) => Framing::Length(length),
            (RequestBody::Client(_), None) => Framing::Chunked,
        };
        let head = head(parts, framing);
        let end = head.len().saturating_sub(2);
        Self {
            head,
            host_at: (!parts.headers.contains_key(HOST)).then_some(end),
            is_safe: parts.method.is_safe(),
            is_head: parts.method == Method::HEAD,
            protocols,
            body,
            framing,
            pieces: VecDeque::new(),
            written: 0,
        }
    }

    /// Whether it may be sent again although it was sent: it is safe, and nothing of it is gone.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.is_safe && matches!(self.body, RequestBody::Empty)
    }

    /// Names a host where the client named none.
    pub(crate) fn name_host(&mut self, host: &str) {
        if let Some(end) = self.host_at {
            self.head.truncate(end);
            self.head.extend_from_slice(format!("host: {host}\r\n\r\n").as_bytes());
        }
    }

    /// To be called before each attempt.
    pub(crate) fn begin(&mut self) {
        self.written = 0;
    }

    /// Whether no byte of it has left.
    pub(crate) fn is_unsent(&self) -> bool {
        self.written == 0
    }

    pub(crate) fn is_sent(&self) -> bool {
        self.waits_for_client() && matches!(self.framing, Framing::Ended)
    }

    /// Whether all that was read of it is written.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.written == self.head.len() && self.pieces.is_empty()
    }

    /// What is left of it, for a task of its own.
    pub(crate) fn take_rest(&mut self) -> Self {
        Self {
            head: self.head.get(self.written..).unwrap_or_default().to_vec(),
            host_at: None,
            is_safe: false,
            is_head: false,
            protocols: None,
            body: std::mem::replace(&mut self.body, RequestBody::Empty),
            framing: std::mem::replace(&mut self.framing, Framing::Ended),
            pieces: std::mem::take(&mut self.pieces),
            written: 0,
        }
    }

    /// Writes what is there, and reads on from the client as long as the upstream takes it.
    pub(crate) fn poll_send<W>(&mut self, writer: &mut W, cx: &mut Context<'_>) -> Poll<Result<(), SendError>>
    where
        W: AsyncWrite + Unpin,
    {
        while !self.is_sent() {
            ready!(self.poll_step(writer, cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// One piece of it.
    pub(crate) fn poll_step<W>(&mut self, writer: &mut W, cx: &mut Context<'_>) -> Poll<Result<(), SendError>>
    where
        W: AsyncWrite + Unpin,
    {
        // Before the head is written, so that both can go at once.
        let fed = if self.pieces.is_empty() { self.poll_feed(cx) } else { Poll::Ready(Ok(())) };
        if let Poll::Ready(Err(fault)) = fed {
            return Poll::Ready(Err(SendError::Client(fault)));
        }
        ready!(self.poll_write(writer, cx)).map_err(|_| SendError::Upstream)?;
        fed.map_err(SendError::Client)
    }

    fn poll_write<W>(&mut self, writer: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        loop {
            let head = self.head.get(self.written..).unwrap_or_default();
            let polled = match (head, self.pieces.is_empty()) {
                ([], true) => return Poll::Ready(Ok(())),
                // One piece, for which the kernel has a shorter way.
                (head, true) => Pin::new(&mut *writer).poll_write(cx, head),
                (head, false) => {
                    let mut slices = [IoSlice::new(&[]); MOST_PIECES];
                    let pieces = std::iter::once(head).chain(self.pieces.iter().map(Bytes::as_ref));
                    for (slice, piece) in slices.iter_mut().zip(pieces) {
                        *slice = IoSlice::new(piece);
                    }
                    Pin::new(&mut *writer).poll_write_vectored(cx, &slices)
                }
            };
            match ready!(polled)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.advance(count),
            }
        }
    }

    fn advance(&mut self, mut count: usize) {
        let of_head = count.min(self.head.len() - self.written);
        self.written += of_head;
        count -= of_head;
        while let Some(piece) = self.pieces.front_mut().filter(|_| count > 0) {
            let of_piece = count.min(piece.len());
            piece.advance(of_piece);
            count -= of_piece;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    /// Reads one piece from the client.
    fn poll_feed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyFault>> {
        let left = match self.framing {
            Framing::Ended => return Poll::Ready(Ok(())),
            Framing::Length(left) => Some(left),
            Framing::Chunked => None,
        };
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()?;
        match (frame.map(Frame::into_data), left) {
            (Some(Ok(data)), Some(left)) => {
                let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
                let left = left.checked_sub(size).ok_or(BodyFault::Broken)?;
                let is_last = left == 0 && size > 0;
                self.framing = if is_last { Framing::Ended } else { Framing::Length(left) };
                self.push(data);
            }
            (None, Some(0)) => self.framing = Framing::Ended,
            (Some(Ok(data)), None) if data.is_empty() => {}
            (Some(Ok(data)), None) => {
                self.push(format!("{:x}\r\n", data.len()).into());
                self.push(data);
                self.push(Bytes::from_static(b"\r\n"));
            }
            // Behind a length there is no place for trailers.
            (Some(Err(_)), Some(_)) => {}
            (Some(Err(frame)), None) => {
                self.end_chunks(&frame.into_trailers().unwrap_or_default());
            }
            (None, None) => self.end_chunks(&HeaderMap::new()),
            (None, Some(_)) => return Poll::Ready(Err(BodyFault::Broken)),
        }
        Poll::Ready(Ok(()))
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    fn end_chunks(&mut self, trailers: &HeaderMap) {
        let mut end = b"0\r\n".to_vec();
        headers::write(trailers, &mut end);
        end.extend_from_slice(b"\r\n");
        self.push(end.into());
        self.framing = Framing::Ended;
    }
}

fn head(parts: &request::Parts, framing: Framing) -> Vec<u8> {
    let mut head = Vec::with_capacity(USUAL_BYTES);
    head.extend_from_slice(parts.method.as_str().as_bytes());
    head.push(b' ');
    let target = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if !target.starts_with(['/', '*']) {
        head.push(b'/');
    }
    head.extend_from_slice(target.as_bytes());
    head.extend_from_slice(b" HTTP/1.1\r\n");
    headers::write(&parts.headers, &mut head);
    if matches!(framing, Framing::Chunked) && !parts.headers.contains_key(TRANSFER_ENCODING) {
        head.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::task::Waker;

    use http::Request;

    use super::*;

    fn outgoing(method: &str, target: &str, headers: &[(&str, &[u8])]) -> Outgoing {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Outgoing::new(&parts, None, RequestBody::Empty)
    }

    fn sent(request: &mut Outgoing) -> String {
        let mut wire = Cursor::new(Vec::new());
        let sent = request.poll_send(&mut wire, &mut Context::from_waker(Waker::noop()));
        assert!(matches!(sent, Poll::Ready(Ok(()))), "{sent:?}");
        String::from_utf8_lossy(wire.get_ref()).into_owned()
    }

    #[test]
    fn a_request_is_written_as_it_is_and_again_as_often_as_it_begins() {
        let headers: [(&str, &[u8]); 3] =
            [("x-twice", b"1: 2"), ("x-empty", b""), ("x-twice", b"\ttab:\xff")];
        let mut request = outgoing("GET", "/a:b?c=%0A:&d", &headers);
        let first = sent(&mut request);
        assert_eq!(
            first,
            "GET /a:b?c=%0A:&d HTTP/1.1\r\nx-twice: 1: 2\r\nx-twice: \ttab:\u{fffd}\r\nx-empty: \r\n\r\n"
        );
        assert_eq!((request.is_sent(), request.is_unsent(), request.is_repeatable()), (true, false, true));
        assert_eq!(sent(&mut request), "");
        request.begin();
        assert_eq!(sent(&mut request), first);
    }

    #[test]
    fn what_was_answered_half_way_begins_anew_as_a_whole() {
        let mut request = outgoing("GET", "/a", &[("x", b"y")]);
        let whole = sent(&mut request);
        request.begin();
        request.advance(7);
        assert_eq!(sent(&mut request.take_rest()), whole[7..]);
        request.begin();
        assert_eq!(sent(&mut request), whole);
    }

    #[test]
    fn what_names_no_host_gets_one_and_what_does_keeps_its_own() {
        let mut request = outgoing("OPTIONS", "*", &[]);
        request.name_host("other");
        request.name_host("shop:80");
        assert_eq!(sent(&mut request), "OPTIONS * HTTP/1.1\r\nhost: shop:80\r\n\r\n");
        let mut request = outgoing("POST", "/", &[("host", b"a")]);
        request.name_host("shop:80");
        assert_eq!(
            (sent(&mut request).as_str(), request.is_repeatable()),
            ("POST / HTTP/1.1\r\nhost: a\r\n\r\n", false)
        );
    }

    #[test]
    fn a_length_without_a_body_is_not_sent() {
        let mut request = outgoing("POST", "/", &[("content-length", b"5")]);
        let sent = request.poll_send(&mut Cursor::new(Vec::new()), &mut Context::from_waker(Waker::noop()));
        assert!(matches!(sent, Poll::Ready(Err(SendError::Client(BodyFault::Broken)))));
        assert!(request.is_unsent());
    }
}
