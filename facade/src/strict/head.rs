//! The head of a request, line by line (RFC 9112 §3, §5, §6).
//!
//! Invariant: a head that passes frames its body in exactly one way, and hyper reads it to the same end.

use http::StatusCode;

use crate::strict::grammar::{
    is_field_text, is_named, is_path_and_query, is_plain_host, is_token, is_usual_method, length,
    split_field, trim,
};
use crate::strict::{Fault, Limits};

/// Bytes of a request line besides its target.
const LINE_BESIDES_TARGET: usize = 64;

/// What is known of a head that is being read.
#[derive(Debug, Default)]
pub(crate) struct Head {
    has_begun: bool,
    fields: usize,
    length: Option<u64>,
    is_chunked: bool,
    is_http_10: bool,
    is_head: bool,
    asks_to_upgrade: bool,
}

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) body: Framing,
    /// The bytes behind it may be of another protocol.
    pub(crate) asks_to_upgrade: bool,
}

/// How a body tells where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

impl Head {
    /// Takes one line without its CRLF; after the last one, the empty one, it knows what follows.
    pub(crate) fn line(&mut self, line: &[u8], limits: &Limits) -> Result<Option<Message>, Fault> {
        match (self.has_begun, line) {
            // Some clients send an empty line behind a body (RFC 9112 §2.2).
            (false, []) => Ok(None),
            (false, line) => {
                self.has_begun = true;
                self.request_line(line, limits).map(|()| None)
            }
            (true, []) => self.end().map(Some),
            (true, line) => {
                self.fields += 1;
                if self.fields > limits.fields {
                    return Err(too_large("there are too many header lines"));
                }
                self.field(line).map(|()| None)
            }
        }
    }

    /// What to say when so many bytes are no head yet.
    pub(crate) fn may_grow(&self, size: usize, limits: &Limits) -> Result<(), Fault> {
        if !self.has_begun && size > limits.target + LINE_BESIDES_TARGET {
            return Err(too_long());
        }
        if size > limits.head {
            return Err(too_large("the header is too large"));
        }
        Ok(())
    }

    /// An answer to HEAD has no body.
    pub(crate) fn is_head(&self) -> bool {
        self.is_head
    }

    fn request_line(&mut self, line: &[u8], limits: &Limits) -> Result<(), Fault> {
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Fault::bad("the request line is not method, target and version"));
        };
        if !is_token(method) {
            return Err(Fault::bad("the method is not a word"));
        }
        self.is_head = method == b"HEAD";
        self.version(version)?;
        if target.len() > limits.target {
            return Err(too_long());
        }
        if !is_usual_method(method) || matches!(method, b"CONNECT" | b"TRACE") {
            return Err(Fault::with(StatusCode::NOT_IMPLEMENTED, "this server does not serve the method"));
        }
        check_target(method, target)
    }

    fn version(&mut self, version: &[u8]) -> Result<(), Fault> {
        match version {
            b"HTTP/1.1" => Ok(()),
            b"HTTP/1.0" => {
                self.is_http_10 = true;
                Ok(())
            }
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Fault::with(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "this server speaks HTTP/1.1 and HTTP/1.0",
            )),
            _ => Err(Fault::bad("the request line does not end with a version of HTTP")),
        }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Fault> {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Err(Fault::bad("a header is folded over two lines, or begins with a space"));
        }
        let (name, value) = split_field(line)
            .ok_or(Fault::bad("a header's name is not a word with a colon right behind it"))?;
        let value = trim(value);
        if !is_field_text(value) {
            return Err(Fault::bad("a header's value has a control character"));
        }
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.asks_to_upgrade = true,
            14 if is_named(name, b"content-length") => self.content_length(name, value)?,
            17 if is_named(name, b"transfer-encoding") => self.transfer_encoding(name, value)?,
            _ => {}
        }
        Ok(())
    }

    fn content_length(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        if name.contains(&b'_') {
            return Err(Fault::bad("a header could be taken for Content-Length"));
        }
        if self.length.is_some() {
            return Err(Fault::bad("there is more than one header Content-Length"));
        }
        let length = length(value).ok_or(Fault::bad("the header Content-Length is not a number"))?;
        self.length = Some(length);
        Ok(())
    }

    fn transfer_encoding(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        if name.contains(&b'_') {
            return Err(Fault::bad("a header could be taken for Transfer-Encoding"));
        }
        if self.is_chunked {
            return Err(Fault::bad("there is more than one header Transfer-Encoding"));
        }
        if self.is_http_10 {
            return Err(Fault::bad("HTTP/1.0 has no Transfer-Encoding"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            let detail = "the only transfer coding this server knows is chunked";
            return Err(Fault::with(StatusCode::NOT_IMPLEMENTED, detail));
        }
        self.is_chunked = true;
        Ok(())
    }

    fn end(&self) -> Result<Message, Fault> {
        let body = match (self.is_chunked, self.length) {
            (true, Some(_)) => {
                return Err(Fault::bad("there is a Content-Length beside a Transfer-Encoding"));
            }
            (true, None) => Framing::Chunked,
            (false, length) => Framing::Length(length.unwrap_or(0)),
        };
        Ok(Message { body, asks_to_upgrade: self.asks_to_upgrade && !self.is_http_10 })
    }
}

/// A path, an absolute URL, or `*` with OPTIONS (RFC 9112 §3.2).
fn check_target(method: &[u8], target: &[u8]) -> Result<(), Fault> {
    let rest = match target {
        [b'/', ..] => target,
        b"*" if method == b"OPTIONS" => return Ok(()),
        _ => {
            let rest =
                after_scheme(target).ok_or(Fault::bad("the request target does not begin with a slash"))?;
            let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
            let (authority, rest) = rest.split_at(end);
            if !is_plain_host(authority) {
                return Err(Fault::bad("the request target's host is not host or host:port"));
            }
            rest
        }
    };
    if is_path_and_query(rest) {
        Ok(())
    } else {
        Err(Fault::bad("the request target has a character that must be percent-encoded, or a broken escape"))
    }
}

fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = target.split_at(memchr::memchr(b':', target)?);
    let is_known = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    rest.strip_prefix(b"://").filter(|_| is_known)
}

fn too_long() -> Fault {
    Fault::with(StatusCode::URI_TOO_LONG, "the request target is too long")
}

fn too_large(detail: &'static str) -> Fault {
    Fault::with(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
}
