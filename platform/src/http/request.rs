//! What is known of a request before its handler runs: its id and its trace.
//!
//! Invariant: whoever asks twice gets the same, and what nobody asks for is not made.

use std::cell::OnceCell;
use std::fmt;
use std::rc::Rc;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage, HttpRequest};

use crate::random;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The identifiers of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// From the client's `x-request-id` where that is sane, else a new one.
    pub request_id: String,
    /// The W3C `traceparent` to pass on: the client's trace, where it sent a valid one, else a new trace, in both cases
    /// with this request as the parent. Always there.
    pub traceparent: Option<String>,
}

/// The identifiers of the request that a handler answers.
pub fn request_info(request: &HttpRequest) -> RequestInfo {
    if let Some(known) = request.extensions().get::<Rc<Known>>() {
        return known.info();
    }
    let known = Known::read(request.headers());
    let info = known.info();
    request.extensions_mut().insert(Rc::new(known));
    info
}

/// The identifiers of a request, as far as somebody asked for them.
#[derive(Debug)]
pub(super) struct Known {
    id: RequestId,
    trace: OnceCell<Trace>,
}

#[derive(Debug)]
enum RequestId {
    Given(HeaderValue),
    Made(u128),
}

impl Known {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).filter(|value| value.to_str().is_ok_and(is_sane));
        let id =
            given.map_or_else(|| RequestId::Made(random::bits128()), |value| RequestId::Given(value.clone()));
        let continued = headers.get(TRACEPARENT).and_then(|value| Trace::continued(value.to_str().ok()?));
        Self { id, trace: continued.map_or_else(OnceCell::new, OnceCell::from) }
    }

    /// The request's id as a header.
    pub(super) fn header(&self) -> HeaderValue {
        match &self.id {
            RequestId::Given(value) => value.clone(),
            RequestId::Made(id) => hexadecimal(*id),
        }
    }

    /// The trace's id: the client's where it sent one.
    pub(super) fn trace_id(&self) -> impl fmt::Display + use<> {
        let id = self.trace().id;
        fmt::from_fn(move |f| write!(f, "{id:032x}"))
    }

    fn trace(&self) -> &Trace {
        self.trace.get_or_init(Trace::begun)
    }

    fn info(&self) -> RequestInfo {
        RequestInfo { request_id: self.to_string(), traceparent: Some(self.trace().to_string()) }
    }
}

/// The request's id.
impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            RequestId::Given(value) => f.write_str(value.to_str().unwrap_or_default()),
            RequestId::Made(id) => write!(f, "{id:032x}"),
        }
    }
}

/// A trace with this request as its newest member (W3C Trace Context, section 3.2).
#[derive(Debug, Clone, Copy)]
struct Trace {
    id: u128,
    span: u64,
    flags: u8,
}

impl Trace {
    /// Not sampled: nobody here records spans, and whoever does begins traces of its own.
    fn begun() -> Self {
        Self { id: random::bits128().max(1), span: random::bits64().max(1), flags: 0 }
    }

    /// The client's trace. A version above ours may say more behind the four fields (section 4.3).
    fn continued(header: &str) -> Option<Self> {
        let is_field = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let mut fields = header.split('-');
        let mut field = |length: usize| {
            fields.next().filter(|field| field.len() == length && field.bytes().all(is_field))
        };
        let (version, id, parent, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
        if version == "ff" || (version == "00" && fields.next().is_some()) {
            return None;
        }
        let id = u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
        u64::from_str_radix(parent, 16).ok().filter(|parent| *parent != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self { id, span: random::bits64().max(1), flags })
    }
}

/// The `traceparent` for whoever is called next.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.id, self.span, self.flags)
    }
}

/// Short and of harmless characters, so that it can stand in logs and headers as it is.
fn is_sane(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn hexadecimal(id: u128) -> HeaderValue {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(id.to_be_bytes()) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn continued(header: &str) -> bool {
        Trace::continued(header).is_some()
    }

    #[test]
    fn only_sane_ids_and_valid_traces_are_taken_over() {
        assert!(is_sane("a-1_b.2") && !is_sane("") && !is_sane("a b") && !is_sane(&"x".repeat(65)));
        assert!(continued(&format!("00-{TRACE}-00f067aa0ba902b7-01")));
        assert!(continued(&format!("01-{TRACE}-00f067aa0ba902b7-01-more")));
        for header in [
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            String::new(),
        ] {
            assert!(!continued(&header), "{header}");
        }
    }

    #[test]
    fn a_request_without_a_trace_begins_one_and_keeps_it() {
        let request = TestRequest::default().to_http_request();
        let info = request_info(&request);
        assert!(continued(info.traceparent.as_deref().unwrap()), "{info:?}");
        assert_eq!(info, request_info(&request));
    }

    #[test]
    fn a_trace_is_passed_on_with_this_request_as_the_parent() {
        let given = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let request = TestRequest::default().insert_header(("traceparent", given.as_str())).to_http_request();
        let passed = request_info(&request).traceparent.unwrap();
        assert!(passed.starts_with(&format!("00-{TRACE}-")) && passed.ends_with("-01"), "{passed}");
        assert!(passed != given && continued(&passed), "{passed}");
    }

    #[test]
    fn the_header_and_the_handler_see_the_same_id() {
        let known = Known { id: RequestId::Made(0x0123_4567_89ab_cdef), trace: OnceCell::new() };
        assert_eq!(known.header().to_str().unwrap(), known.to_string());
        assert_eq!(known.to_string(), "00000000000000000123456789abcdef");
    }
}
