//! What a proxy must do to headers on the way through (RFC 9110 §7.6, RFC 9112 §6).
//!
//! Invariant: nothing that concerns one connection only passes to the other, and the body is framed the way
//! its sender framed it.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Version, request, response};

use crate::protect::claims::Claims;
use crate::protect::forwarded::{ForwardedPlan, Hop};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// CGI-like upstreams turn this header into `HTTP_PROXY`, which their HTTP clients then obey.
const HTTPOXY: HeaderName = HeaderName::from_static("proxy");
/// What concerns one connection only; `Trailer` does where there is no place for trailers.
static HOP: [HeaderName; 7] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, UPGRADE, TRANSFER_ENCODING, TRAILER];
const CHUNKED_BIT: u8 = 1 << 5;
const TRAILERS_PLACE: usize = 6;
const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const TE_OPTION: HeaderValue = HeaderValue::from_static("te");

/// Removes what a client says is for this connection only. It comes before anything is written into the head, so that
/// nothing of ours can be named; what later phases need to know of the connection stays until [`to_upstream`].
pub(crate) fn obey_connection(headers: &mut HeaderMap) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
    for name in named_by_connection(headers) {
        if ![UPGRADE, TE, TRANSFER_ENCODING].contains(&name) {
            headers.remove(name);
        }
    }
}

/// Makes a client's request head into ours; [`obey_connection`] came before. True if its answer may have trailers.
pub(crate) fn to_upstream(
    parts: &mut request::Parts,
    plan: &ForwardedPlan,
    hop: &Hop,
    claims: Option<&Claims>,
) -> bool {
    let headers = &mut parts.headers;
    let wants_trailers = to_one_hop(headers);
    plan.rewrite(headers, hop);
    if let Some(Claims(checked)) = claims {
        for (name, value) in &checked.headers {
            headers.insert(name.clone(), value.clone());
        }
    }
    plan.append_via(headers, parts.version);
    // Over HTTP/2 they are a frame of their own, which needs no asking for.
    let takes_trailers = wants_trailers || parts.version == Version::HTTP_2;
    parts.version = Version::HTTP_11;
    takes_trailers
}

/// Takes out what concerns the client's connection, and says of the next one what has to be said. Returns whether the
/// client asks for trailers.
fn to_one_hop(headers: &mut HeaderMap) -> bool {
    if !headers.keys().any(ends_here) {
        return false;
    }
    let wants_trailers = headers.get_all(TE).iter().any(|value| lists(value, "trailers"));
    let framing = strip_hop(headers);
    headers.remove(PROXY_AUTHORIZATION);
    headers.remove(HTTPOXY);
    if framing == Framing::Chunked {
        // Said aloud because hyper sends no body with a GET of unknown length unless the head announces one.
        headers.insert(TRANSFER_ENCODING, CHUNKED);
    }
    if wants_trailers {
        headers.insert(TE, TRAILERS);
        headers.insert(CONNECTION, TE_OPTION);
    }
    wants_trailers
}

/// Writes a line for each, as HTTP/1.1 has them.
pub(crate) fn write(headers: &HeaderMap, text: &mut Vec<u8>) {
    for (name, value) in headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
}

/// Makes an upstream's answer head into ours.
pub(crate) fn to_client(parts: &mut response::Parts, plan: &ForwardedPlan) {
    if parts.headers.keys().any(ends_here) {
        obey_connection(&mut parts.headers);
        strip_hop(&mut parts.headers);
        parts.headers.remove(PROXY_AUTHENTICATE);
    }
    plan.append_via(&mut parts.headers, parts.version);
    parts.version = Version::HTTP_11;
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Chunked,
    /// Without a place for trailers.
    Other,
}

/// Removes the headers that are known to concern one connection only, and an announcement of trailers that cannot come.
/// One pass over the names tells which of them are there: most are not, and to look for each in turn costs more.
fn strip_hop(headers: &mut HeaderMap) -> Framing {
    let found = headers.keys().fold(0, |found, name| found | hop_bit(name));
    for (place, name) in HOP.iter().enumerate().filter(|(place, _)| found >> place & 1 == 1) {
        if place != TRAILERS_PLACE || found & CHUNKED_BIT == 0 {
            headers.remove(name);
        }
    }
    if found & CHUNKED_BIT == 0 { Framing::Other } else { Framing::Chunked }
}

/// The bit of the name's place in [`HOP`].
fn hop_bit(name: &HeaderName) -> u8 {
    match name.as_str() {
        "connection" => 1,
        "keep-alive" => 1 << 1,
        "proxy-connection" => 1 << 2,
        "te" => 1 << 3,
        "upgrade" => 1 << 4,
        "transfer-encoding" => CHUNKED_BIT,
        "trailer" => 1 << TRAILERS_PLACE,
        _ => 0,
    }
}

/// Whether a header goes no further than to us. One look at all names costs less than to look each of these up.
fn ends_here(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "trailer"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy"
    )
}

/// `Host` and `Content-Length` stay even when named: without them the next server reads another message.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| {
            !option.eq_ignore_ascii_case(b"keep-alive") && !option.eq_ignore_ascii_case(b"close")
        })
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
        .collect()
}

/// Whether a comma-separated list has the word in it.
pub(crate) fn lists(value: &HeaderValue, word: &str) -> bool {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::settings::ForwardedSettings;

    fn through(headers: &[(&str, &str)]) -> HeaderMap {
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let plan = ForwardedPlan::new(&ForwardedSettings::default(), Vec::new(), &mut Vec::new());
        let hop = Hop::new(&plan, "192.0.2.7".parse().unwrap(), "http", 80);
        obey_connection(&mut parts.headers);
        to_upstream(&mut parts, &plan, &hop, None);
        parts.headers
    }

    #[test]
    fn what_connection_names_does_not_pass() {
        let headers = through(&[
            ("connection", "X-Secret, keep-alive"),
            ("connection", "x-other"),
            ("x-secret", "1"),
            ("x-other", "2"),
            ("x-kept", "3"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "websocket"),
            ("proxy-connection", "close"),
        ]);
        for gone in ["connection", "x-secret", "x-other", "keep-alive", "upgrade", "proxy-connection"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(headers["x-kept"], "3");
    }

    #[test]
    fn each_header_of_one_connection_has_its_own_bit() {
        for (place, name) in HOP.iter().enumerate() {
            assert_eq!(hop_bit(name), 1 << place, "{name}");
            let is_there = through(&[(name.as_str(), "x")]).contains_key(name);
            assert_eq!(is_there, *name == TRANSFER_ENCODING, "{name}");
        }
        assert_eq!(hop_bit(&HOST), 0);
        assert!(through(&[("transfer-encoding", "chunked"), ("trailer", "x")]).contains_key("trailer"));
    }

    #[test]
    fn naming_host_or_length_does_not_remove_them() {
        let headers =
            through(&[("host", "a"), ("content-length", "3"), ("connection", "host, content-length")]);
        assert_eq!(
            (&headers["host"], &headers["content-length"]),
            (&"a".parse().unwrap(), &"3".parse().unwrap())
        );
    }

    #[test]
    fn forwarding_is_recorded() {
        let headers = through(&[("host", "shop"), ("x-forwarded-for", "198.51.100.1"), ("via", "1.0 front")]);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "shop");
        let via: Vec<_> = headers.get_all("via").iter().collect();
        assert_eq!(via, ["1.0 front", "1.1 banyan"]);
    }

    #[test]
    fn a_chunked_body_stays_chunked_and_trailers_stay_wanted() {
        let headers = through(&[("transfer-encoding", "Chunked"), ("te", "trailers, deflate")]);
        assert_eq!(headers["transfer-encoding"], "chunked");
        assert_eq!((&headers["te"], &headers["connection"]), (&TRAILERS, &TE_OPTION));
    }
}
