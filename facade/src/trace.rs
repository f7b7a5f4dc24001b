//! W3C Trace Context (Recommendation of 2021-11-23): a valid trace passes, any other is replaced by a new one.
//!
//! A valid `traceparent` passes unchanged, its parent included: the facade records no span, and a parent that nobody
//! recorded would tear the trace apart (§3.4 lets a participant that records nothing forward the field as it is).
//!
//! Invariant: an upstream never sees an invalid `traceparent`, nor a `tracestate` that does not belong to a valid one.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::random::Random;
use crate::settings::TraceBegin;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `00-` trace id `-` parent id `-` flags.
const LENGTH: usize = 55;
/// Traces begun per allocation.
const BATCH: usize = 64;
/// Members that a `tracestate` may have (§3.3.1.1).
const MOST_MEMBERS: usize = 32;

/// Begins traces. Belongs to one worker.
#[derive(Debug)]
pub(crate) struct Traces {
    random: Random,
    begin: TraceBegin,
    made: Bytes,
}

impl Traces {
    pub(crate) fn new(begin: TraceBegin) -> Self {
        Self { random: Random::new(), begin, made: Bytes::new() }
    }

    /// Leaves a valid trace alone and replaces any other. Returns the `traceparent` that goes to the upstream.
    pub(crate) fn settle(&mut self, headers: &mut HeaderMap) -> Option<HeaderValue> {
        if let Some(valid) = valid_parent(headers) {
            if headers.contains_key(TRACESTATE) && !is_valid_state(headers) {
                headers.remove(TRACESTATE);
            }
            return Some(valid);
        }
        headers.remove(TRACESTATE);
        if self.begin == TraceBegin::None {
            headers.remove(TRACEPARENT);
            return None;
        }
        let begun = self.next();
        headers.insert(TRACEPARENT, begun.clone());
        Some(begun)
    }

    fn next(&mut self) -> HeaderValue {
        if self.made.len() < LENGTH {
            self.made = self.batch();
        }
        // Digits and dashes are a header value.
        HeaderValue::from_maybe_shared(self.made.split_to(LENGTH)).unwrap_or(HeaderValue::from_static("-"))
    }

    fn batch(&mut self) -> Bytes {
        let flags: &[u8] = if self.begin == TraceBegin::Sampled { b"-01" } else { b"-00" };
        let mut batch = BytesMut::with_capacity(BATCH * LENGTH);
        for _ in 0..BATCH {
            batch.extend_from_slice(b"00-");
            batch.extend_from_slice(&hexadecimal(self.random.bits()));
            batch.extend_from_slice(&hexadecimal(self.random.bits().max(1)));
            batch.extend_from_slice(b"-");
            batch.extend_from_slice(&hexadecimal(self.random.bits().max(1)));
            batch.extend_from_slice(flags);
        }
        batch.freeze()
    }
}

/// The trace id of a valid `traceparent`.
pub(crate) fn trace_id(parent: &HeaderValue) -> &str {
    parent.to_str().ok().and_then(|text| text.get(3..35)).unwrap_or_default()
}

/// Hexadecimal digits, eight at a time: identifiers are made for every request.
pub(crate) fn hexadecimal(bits: u64) -> [u8; 16] {
    let digits = |half: u64| {
        // Each nibble goes to a byte of its own.
        let pairs = (half | half << 16) & 0x0000_ffff_0000_ffff;
        let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
        let nibbles = (bytes | bytes << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        let letters = ((nibbles + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
        nibbles + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'9' - 1)
    };
    (u128::from(digits(bits >> 32)) << 64 | u128::from(digits(bits & 0xffff_ffff))).to_be_bytes()
}

/// Exactly one, and a valid one (§3.2).
fn valid_parent(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next()?;
    (values.next().is_none() && is_valid_parent(value.as_bytes())).then(|| value.clone())
}

fn is_valid_parent(text: &[u8]) -> bool {
    let Some((known, more)) = text.split_at_checked(LENGTH) else { return false };
    // A version above ours may say more behind the four fields (§4.3).
    let is_long_enough = more.is_empty() || (!known.starts_with(b"00") && more.starts_with(b"-"));
    let is_shaped = known.iter().enumerate().all(|(place, byte)| match place {
        2 | 35 | 52 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    });
    let is_zero = |from, to| known.get(from..to).is_none_or(|id: &[u8]| id.iter().all(|byte| *byte == b'0'));
    is_long_enough && is_shaped && !known.starts_with(b"ff") && !is_zero(3, 35) && !is_zero(36, 52)
}

/// Every member a key and a value (§3.3.1); several headers are one list.
fn is_valid_state(headers: &HeaderMap) -> bool {
    let members = headers.get_all(TRACESTATE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let mut count = 0;
    for member in members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
        count += 1;
        let Some(equals) = member.iter().position(|byte| *byte == b'=') else { return false };
        let (key, value) = member.split_at(equals);
        if count > MOST_MEMBERS || !is_key(key) || !is_value(value.get(1..).unwrap_or_default()) {
            return false;
        }
    }
    count > 0
}

fn is_key(key: &[u8]) -> bool {
    let is_first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_rest = |byte: &u8| is_first(byte) || b"_-*/@".contains(byte);
    (1..=256).contains(&key.len()) && key.first().is_some_and(is_first) && key.iter().all(is_rest)
}

fn is_value(value: &[u8]) -> bool {
    (1..=256).contains(&value.len()) && value.iter().all(|byte| matches!(byte, 0x20..=0x7e) && *byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        for bits in [0, 0x0123_4567_89ab_cdef, u64::MAX, 0xa09f_f90a_0000_0001] {
            assert_eq!(hexadecimal(bits), *format!("{bits:016x}").as_bytes());
        }
    }

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn settled(given: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let passed = Traces::new(TraceBegin::Unsampled).settle(&mut headers);
        assert_eq!(passed.as_ref(), headers.get(TRACEPARENT));
        headers
    }

    #[test]
    fn a_valid_trace_passes_unchanged() {
        for given in [GIVEN.to_owned(), format!("cc{}-more", &GIVEN[2..])] {
            let headers =
                settled(&[("traceparent", &given), ("tracestate", "a=1,b@c=2"), ("tracestate", "d=3")]);
            assert_eq!(headers[TRACEPARENT], given.as_str());
            assert_eq!(headers.get_all(TRACESTATE).iter().count(), 2);
        }
    }

    #[test]
    fn an_invalid_trace_is_replaced_and_its_state_dropped() {
        let zeros = "0".repeat(32);
        for given in [
            String::new(),
            GIVEN.to_uppercase(),
            GIVEN[..54].to_owned(),
            format!("{GIVEN}-more"),
            format!("ff{}", &GIVEN[2..]),
            format!("cc{}more", &GIVEN[2..]),
            format!("00-{zeros}-00f067aa0ba902b7-01"),
            format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", &zeros[..16]),
            GIVEN.replace('-', "_"),
        ] {
            let headers = settled(&[("traceparent", &given), ("tracestate", "a=1")]);
            let passed = headers[TRACEPARENT].as_bytes();
            assert!(is_valid_parent(passed) && passed != given.as_bytes(), "{given}");
            assert!(!headers.contains_key(TRACESTATE), "{given}");
        }
        let headers = settled(&[("traceparent", GIVEN), ("traceparent", GIVEN)]);
        assert_eq!(headers.get_all(TRACEPARENT).iter().count(), 1);
        assert_ne!(headers[TRACEPARENT], GIVEN);
    }

    #[test]
    fn an_invalid_state_is_dropped_and_its_trace_kept() {
        let long = format!("a={}", "x".repeat(257));
        let many = vec!["a=1"; 33].join(",");
        for state in ["a", "A=1", "=1", "a=", "a=b=c", long.as_str(), many.as_str(), ","] {
            let headers = settled(&[("traceparent", GIVEN), ("tracestate", state)]);
            assert_eq!(headers[TRACEPARENT], GIVEN);
            assert!(!headers.contains_key(TRACESTATE), "{state}");
        }
    }

    #[test]
    fn begun_traces_differ_and_say_whether_they_are_recorded() {
        let mut traces = Traces::new(TraceBegin::Sampled);
        let ids: std::collections::HashSet<_> =
            (0..1_000).map(|_| trace_id(&traces.next()).to_owned()).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(traces.next().to_str().unwrap().ends_with("-01"));
        let mut headers = HeaderMap::new();
        assert_eq!(Traces::new(TraceBegin::None).settle(&mut headers), None);
        assert!(headers.is_empty());
    }
}
