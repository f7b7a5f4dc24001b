//! Trailers on their way through, in both directions (RFC 9110 §6.5).
//!
//! Invariant: a trailer passes only if its message announced it, and never if it would be taken for a header that says
//! something of framing, routing, origin or rights: whoever merges trailers into headers would believe it.

use http::header::{HeaderMap, HeaderName, TRAILER};
use http_body::Frame;

/// What must not stand in trailers (RFC 9110 §6.5.1), in the order of the alphabet: framing, routing, conditions,
/// credentials, how an answer is kept, what the content is, and what concerns one connection.
const NEVER: [&str; 58] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "age",
    "allow",
    "alt-svc",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "prefer",
    "proxy",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-request-id",
];

/// The trailers that a message announced and may have.
#[derive(Debug, Default)]
pub(crate) struct Announced(Vec<HeaderName>);

impl Announced {
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        if !headers.contains_key(TRAILER) {
            return Self::default();
        }
        let lists = headers.get_all(TRAILER).iter();
        let words = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
        let names = words.filter_map(|word| HeaderName::from_bytes(word.trim_ascii()).ok());
        Self(names.filter(|name| NEVER.binary_search(&name.as_str()).is_err()).collect())
    }

    /// Takes out those that may not pass.
    pub(crate) fn retain(&mut self, may_pass: impl Fn(&HeaderName) -> bool) {
        self.0.retain(may_pass);
    }

    /// What passes of a frame; none of a frame of trailers that all stay behind.
    pub(crate) fn pass<D>(&self, frame: Frame<D>) -> Option<Frame<D>> {
        let mut trailers = match frame.into_trailers() {
            Ok(trailers) => trailers,
            Err(data) => return Some(data),
        };
        let strange: Vec<_> = trailers.keys().filter(|name| !self.0.contains(name)).cloned().collect();
        strange.iter().for_each(|name| drop(trailers.remove(name)));
        (!trailers.is_empty()).then(|| Frame::trailers(trailers))
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    #[test]
    fn the_list_is_sorted_because_it_is_searched() {
        assert!(NEVER.is_sorted());
    }

    #[test]
    fn only_what_was_announced_and_may_be_a_trailer_passes() {
        let mut headers = HeaderMap::new();
        headers.append(TRAILER, HeaderValue::from_static("X-Sum, host,, Set-Cookie"));
        headers.append(TRAILER, HeaderValue::from_static("x-mine"));
        let mut announced = Announced::read(&headers);
        announced.retain(|name| name != "x-mine");
        let mut trailers = HeaderMap::new();
        for name in ["x-sum", "x-sum", "host", "set-cookie", "x-mine", "x-unannounced"] {
            trailers.append(name, HeaderValue::from_static("1"));
        }
        let passed = announced.pass(Frame::<()>::trailers(trailers)).unwrap().into_trailers().unwrap();
        assert_eq!((passed.len(), passed.get_all("x-sum").iter().count()), (2, 2));
        assert!(Announced::default().pass(Frame::<()>::trailers(passed)).is_none());
        assert!(Announced::default().pass(Frame::data(())).is_some());
    }
}
