//! The cases of the HTTP/2 table: what a client sends behind preface and SETTINGS, and what may come of it.
//!
//! Invariant: each case stands for itself; the path [`PATH`] is replaced by one of the case's own before it is sent.

use crate::frames::{ALL, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, fields, frame};

pub(crate) const PATH: &str = "/case";

pub(crate) type Allow = &'static [&'static str];
pub(crate) type Field<'a> = (&'a str, &'a str);

/// A malformed request (RFC 9113 §8.1.1): a stream error, before which an answer may be sent.
pub(crate) const MALFORMED: Allow = &["400 open", "reset(PROTOCOL_ERROR) open", "goaway(PROTOCOL_ERROR)"];
/// Malformed for the RFC, and answered by nobody in a way that two servers could read differently.
pub(crate) const UNREADABLE: Allow =
    &["400 open", "reset(PROTOCOL_ERROR) open", "goaway(PROTOCOL_ERROR)", "goaway(COMPRESSION_ERROR)"];
const FINE: Allow = &["200 open"];

/// Frames and what may come of them.
pub(crate) struct Case {
    pub(crate) id: &'static str,
    pub(crate) class: &'static str,
    pub(crate) section: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Whose outcomes are looked at.
    pub(crate) streams: Vec<u32>,
    pub(crate) allow: Allow,
    /// Whether answers and messages must be as many; not where requests are cancelled on their way.
    pub(crate) is_counted: bool,
    pub(crate) why: &'static str,
}

impl Case {
    pub(crate) fn why(self, why: &'static str) -> Self {
        Self { why, ..self }
    }

    pub(crate) fn uncounted(self) -> Self {
        Self { is_counted: false, ..self }
    }

    /// Only the connection is looked at.
    pub(crate) fn flood(self) -> Self {
        Self { streams: Vec::new(), is_counted: false, ..self }
    }
}

/// A class of cases and its section.
pub(crate) struct Class(pub(crate) &'static str, pub(crate) &'static str);

impl Class {
    pub(crate) fn case(&self, id: &'static str, allow: Allow, bytes: Vec<u8>) -> Case {
        let Self(class, section) = *self;
        Case { id, class, section, bytes, streams: vec![1], allow, is_counted: true, why: "" }
    }
}

pub(crate) fn block(method: &str, extra: &[Field]) -> Vec<u8> {
    let head = [(":method", method), (":scheme", "http"), (":path", PATH), (":authority", "a")];
    fields(&[&head[..], extra].concat())
}

pub(crate) fn get(extra: &[Field]) -> Vec<u8> {
    frame(HEADERS, ALL, 1, &block("GET", extra))
}

/// The head of a request with a body.
pub(crate) fn post(extra: &[Field]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &block("POST", extra))
}

fn only(list: &[Field]) -> Vec<u8> {
    frame(HEADERS, ALL, 1, &fields(list))
}

fn to(path: &str) -> Vec<u8> {
    only(&[(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a")])
}

pub(crate) fn data(text: &str) -> Vec<u8> {
    frame(DATA, 0, 1, text.as_bytes())
}

pub(crate) fn last(text: &str) -> Vec<u8> {
    frame(DATA, END_STREAM, 1, text.as_bytes())
}

pub(crate) fn trailers(list: &[Field]) -> Vec<u8> {
    frame(HEADERS, ALL, 1, &fields(list))
}

pub(crate) fn join(pieces: &[Vec<u8>]) -> Vec<u8> {
    pieces.concat()
}

pub(crate) fn cases() -> Vec<Case> {
    let messages = [plain(), pseudo(), names(), values(), targets(), lengths(), methods()];
    messages.into_iter().flatten().chain(crate::strictness_http2_frames::cases()).collect()
}

fn plain() -> Vec<Case> {
    let class = Class("Well-formed", "9113 §8.1");
    let body = [post(&[("content-length", "4")]), data("bo"), last("dy")];
    let with_trailers = [post(&[("te", "trailers")]), data("body"), trailers(&[("x-sum", "1")])];
    let split = block("GET", &[]);
    let (first, second) = split.split_at(7);
    let continued = [frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, second)];
    let padded = [&[3][..], &block("GET", &[]), &[0, 0, 0]].concat();
    vec![
        class.case("get", FINE, get(&[])),
        class.case("post-with-length", FINE, join(&body)),
        class.case("post-of-unknown-length", FINE, join(&[post(&[]), data("body"), last("")])),
        class.case("trailers", FINE, join(&with_trailers)),
        class.case("continuation", FINE, join(&continued)),
        class.case("padding", FINE, frame(HEADERS, ALL | PADDED, 1, &padded)),
        class.case("cookies-in-pieces", FINE, get(&[("cookie", "a=1"), ("cookie", "b=2")])),
        class.case("unknown-frame", FINE, join(&[frame(0xfa, 0xff, 0, b"grease"), get(&[])])),
        class.case("obs-text-in-a-value", FINE, get(&[("x-a", "caf\u{e9}")])),
    ]
}

fn pseudo() -> Vec<Case> {
    let class = Class("Pseudo-header fields", "9113 §8.3");
    let (method, scheme, path, authority) =
        ((":method", "GET"), (":scheme", "http"), (":path", PATH), (":authority", "a"));
    vec![
        class.case("no-method", MALFORMED, only(&[scheme, path, authority])),
        class.case("no-scheme", MALFORMED, only(&[method, path, authority])),
        class.case("no-path", MALFORMED, only(&[method, scheme, authority])),
        class.case("no-path-but-host", MALFORMED, only(&[method, scheme, ("host", "a")])),
        class.case("no-authority-and-no-host", MALFORMED, only(&[method, scheme, path])),
        class.case("two-methods", MALFORMED, only(&[method, (":method", "POST"), scheme, path, authority])),
        class.case("two-schemes", MALFORMED, only(&[method, scheme, scheme, path, authority])),
        class.case("two-paths", MALFORMED, only(&[method, scheme, path, (":path", "/smuggled"), authority])),
        class.case(
            "two-authorities",
            MALFORMED,
            only(&[method, scheme, path, authority, (":authority", "b")]),
        ),
        class.case("unknown-pseudo", MALFORMED, get(&[(":port", "80")])),
        class.case("status-in-a-request", MALFORMED, get(&[(":status", "200")])),
        class.case("pseudo-after-a-field", MALFORMED, only(&[method, ("x-a", "1"), scheme, path, authority])),
        class.case("authority-and-another-host", MALFORMED, get(&[("host", "b")])),
        class.case("authority-and-the-same-host", FINE, get(&[("host", "a")])),
        class.case("host-alone", FINE, only(&[method, scheme, path, ("host", "a")])),
        class.case("two-hosts", MALFORMED, only(&[method, scheme, path, ("host", "a"), ("host", "b")])),
        class.case("authority-empty", MALFORMED, only(&[method, scheme, path, (":authority", "")])),
        class.case(
            "authority-with-a-user",
            MALFORMED,
            only(&[method, scheme, path, (":authority", "u:p@a")]),
        ),
        class.case("authority-with-a-path", MALFORMED, only(&[method, scheme, path, (":authority", "a/b")])),
        class.case("authority-with-a-space", MALFORMED, only(&[method, scheme, path, (":authority", "a b")])),
        class.case("authority-no-ipv6", MALFORMED, only(&[method, scheme, path, (":authority", "[1:2]")])),
        class.case("authority-list", MALFORMED, only(&[method, scheme, path, (":authority", "a,b")])),
        class.case(
            "scheme-of-something-else",
            MALFORMED,
            only(&[method, (":scheme", "ftp"), path, authority]),
        ),
        class.case(
            "scheme-of-something-else-and-host",
            MALFORMED,
            only(&[method, (":scheme", "file"), path, authority, ("host", "a")]),
        ),
        class.case("scheme-https-in-cleartext", FINE, only(&[method, (":scheme", "https"), path, authority])),
        class.case("scheme-with-crlf", MALFORMED, only(&[method, (":scheme", "http\r\nx"), path, authority])),
        class.case("scheme-of-a-url", MALFORMED, only(&[method, (":scheme", "http://b/?"), path, authority])),
    ]
}

fn names() -> Vec<Case> {
    let class = Class("Field names", "9113 §8.2");
    let own = Class("Connection-specific fields", "9113 §8.2.2");
    vec![
        class.case("upper-case", MALFORMED, get(&[("X-Upper", "1")])),
        class.case("empty-name", MALFORMED, get(&[("", "1")])),
        class.case("name-with-a-space", MALFORMED, get(&[("x a", "1")])),
        class.case("name-with-a-colon", MALFORMED, get(&[("x:a", "1")])),
        class.case("name-with-crlf", MALFORMED, get(&[("x: 1\r\ntransfer-encoding", "chunked")])),
        class.case("name-beyond-ascii", MALFORMED, get(&[("x-\u{e9}", "1")])),
        class.case("name-with-a-quotation-mark", MALFORMED, get(&[("x\"a", "1")])),
        class.case("name-with-nul", MALFORMED, get(&[("x\0", "1")])),
        class
            .case(
                "transfer-underscore-encoding",
                MALFORMED,
                join(&[post(&[("transfer_encoding", "chunked")]), last("0")]),
            )
            .why("a CGI-like server reads the underscore as a dash"),
        class
            .case(
                "content-underscore-length",
                MALFORMED,
                join(&[post(&[("content_length", "0")]), last("body")]),
            )
            .why("a CGI-like server reads the underscore as a dash"),
        own.case("connection", MALFORMED, get(&[("connection", "close")])),
        own.case("connection-keep-alive", MALFORMED, get(&[("connection", "keep-alive")])),
        own.case(
            "transfer-encoding",
            MALFORMED,
            join(&[post(&[("transfer-encoding", "chunked")]), last("0\r\n\r\n")]),
        ),
        own.case("upgrade", MALFORMED, get(&[("upgrade", "websocket")])),
        own.case("keep-alive", MALFORMED, get(&[("keep-alive", "timeout=5")])),
        own.case("proxy-connection", MALFORMED, get(&[("proxy-connection", "close")])),
        own.case("te-gzip", MALFORMED, get(&[("te", "gzip")])),
        own.case("te-trailers-and-more", MALFORMED, get(&[("te", "trailers, chunked")])),
        own.case("te-trailers", FINE, get(&[("te", "trailers")])),
    ]
}

fn values() -> Vec<Case> {
    let class = Class("Field values", "9113 §8.2.1");
    let smuggled = "1\r\nTransfer-Encoding: chunked\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    vec![
        class.case("cr", UNREADABLE, get(&[("x-a", "1\rb")])),
        class.case("lf", UNREADABLE, get(&[("x-a", "1\nb")])),
        class.case("nul", UNREADABLE, get(&[("x-a", "1\0b")])),
        class.case("a-request-inside", UNREADABLE, get(&[("x-a", smuggled)])),
        class.case("leading-space", MALFORMED, get(&[("x-a", " 1")])),
        class.case("trailing-space", MALFORMED, get(&[("x-a", "1 ")])),
        class.case("trailing-tab", MALFORMED, get(&[("x-a", "1\t")])),
        class.case("only-a-space", MALFORMED, get(&[("x-a", " ")])),
        class.case(
            "space-before-a-length",
            MALFORMED,
            join(&[post(&[("content-length", " 4")]), last("body")]),
        ),
        class.case("crlf-in-host", UNREADABLE, get(&[("host", "a\r\nx: y")])),
        class.case("crlf-in-a-cookie", UNREADABLE, get(&[("cookie", "a=1"), ("cookie", "b\r\nx: y")])),
    ]
}

fn targets() -> Vec<Case> {
    let class = Class("Path", "9113 §8.3.1");
    let options =
        |path| only(&[(":method", "OPTIONS"), (":scheme", "http"), (":path", path), (":authority", "a")]);
    let long = format!("{PATH}{}", "a".repeat(9_000));
    vec![
        class.case("empty-path", MALFORMED, to("")),
        class.case("path-without-a-slash", MALFORMED, to("smuggled")),
        class.case("path-is-a-url", MALFORMED, to("http://b/smuggled")),
        class.case("path-with-a-space", MALFORMED, to("/smuggled HTTP/1.1")),
        class.case("path-with-crlf", MALFORMED, to("/smuggled HTTP/1.1\r\nx: y")),
        class.case("path-with-a-tab", MALFORMED, to("/smuggled\tx")),
        class.case("path-with-nul", MALFORMED, to("/smuggled\0")),
        class.case("path-beyond-ascii", MALFORMED, to("/smuggled\u{e9}")),
        class
            .case(
                "path-with-a-fragment",
                &["200 open", "400 open", "reset(PROTOCOL_ERROR) open"],
                to(&format!("{PATH}#x")),
            )
            .why("cut off before it is routed, or refused"),
        class.case("path-with-a-broken-escape", MALFORMED, to("/smuggled%zz")),
        class.case("path-with-an-escaped-nul", MALFORMED, to("/smuggled%00")),
        class.case("path-is-only-a-query", MALFORMED, to("?smuggled")),
        class.case("star-with-get", MALFORMED, to("*")),
        class
            .case("star-with-options", FINE, options("*"))
            .why("counted under no path of the case's own")
            .uncounted(),
        class.case("path-too-long", &["414 open", "400 open", "reset(PROTOCOL_ERROR) open"], to(&long)),
    ]
}

fn lengths() -> Vec<Case> {
    let class = Class("Content-Length", "9113 §8.1.1");
    let of = |length: &str, body: &str| join(&[post(&[("content-length", length)]), last(body)]);
    let twice = |second| join(&[post(&[("content-length", "4"), ("content-length", second)]), last("body")]);
    let smuggled = "bodyGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let early = frame(HEADERS, ALL, 1, &block("POST", &[("content-length", "4")]));
    vec![
        class.case("body-longer", MALFORMED, of("4", smuggled)),
        class.case("body-shorter", MALFORMED, of("9", "body")),
        class.case("body-where-zero-is-said", MALFORMED, of("0", smuggled)),
        class.case("two-different-lengths", MALFORMED, twice("0")),
        class
            .case("the-same-length-twice", MALFORMED, twice("4"))
            .why("a recipient may take them for one, but the next server need not"),
        class.case("list-of-lengths", MALFORMED, of("4, 4", "body")),
        class.case("length-is-no-number", MALFORMED, of("x", "body")),
        class.case("length-with-a-plus", MALFORMED, of("+4", "body")),
        class.case("length-is-negative", MALFORMED, of("-1", "body")),
        class.case("length-is-hexadecimal", MALFORMED, of("0x4", "body")),
        class.case(
            "length-is-huge",
            &["400 open", "reset(PROTOCOL_ERROR) open", "413 open"],
            of("99999999999999999999", "body"),
        ),
        class.case("length-is-empty", MALFORMED, of("", "body")),
        class.case("length-without-a-body", MALFORMED, early),
        class.case(
            "length-zero-without-a-body",
            FINE,
            frame(HEADERS, ALL, 1, &block("POST", &[("content-length", "0")])),
        ),
        class.case(
            "body-ends-by-trailers-too-early",
            MALFORMED,
            join(&[post(&[("content-length", "9")]), data("body"), trailers(&[("x", "1")])]),
        ),
        class.case(
            "body-never-ends",
            &["408 open", "504 open", "silence open"],
            join(&[post(&[]), data("body")]),
        ),
    ]
}

fn methods() -> Vec<Case> {
    let class = Class("Methods", "9110 §9");
    let of = |method| frame(HEADERS, ALL, 1, &block(method, &[]));
    let connect = only(&[(":method", "CONNECT"), (":authority", "a:80")]);
    let websocket = only(&[
        (":method", "CONNECT"),
        (":protocol", "x-unknown"),
        (":scheme", "http"),
        (":path", PATH),
        (":authority", "a"),
    ]);
    vec![
        class.case("connect", &["501 open", "405 open", "400 open", "reset(PROTOCOL_ERROR) open"], connect),
        class
            .case(
                "connect-with-a-length",
                &["close", "501 open", "400 open", "405 open", "reset(PROTOCOL_ERROR) open"],
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    &fields(&[(":method", "CONNECT"), (":authority", "a:80"), ("content-length", "5")]),
                ),
            )
            .why("hyper ends the connection, which harms nobody but its client"),
        class.case(
            "connect-with-a-path",
            &["501 open", "400 open", "405 open", "reset(PROTOCOL_ERROR) open"],
            of("CONNECT"),
        ),
        class.case(
            "connect-to-an-unknown-protocol",
            &["501 open", "400 open", "reset(PROTOCOL_ERROR) open"],
            websocket,
        ),
        class.case("protocol-with-get", MALFORMED, get(&[(":protocol", "websocket")])),
        class.case("trace", &["501 open", "405 open"], of("TRACE")),
        class.case("method-with-a-space", MALFORMED, of("GET /smuggled HTTP/1.1 x")),
        class.case("method-with-crlf", MALFORMED, of("GET /smuggled HTTP/1.1\r\n\r\nGET")),
        class.case("method-empty", MALFORMED, of("")),
        class.case(
            "method-in-lower-case",
            &["501 open", "400 open", "reset(PROTOCOL_ERROR) open"],
            of("get"),
        ),
        class.case("method-unknown", FINE, of("BREW")).why("as nginx, and as over HTTP/1.1"),
    ]
}
