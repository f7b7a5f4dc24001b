//! W3C Trace Context on its way through.

use crate::support::{Fixture, Message, Upstream};

const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What the upstream sees of a request with these headers.
fn seen(headers: &str) -> Message {
    let upstream = Upstream::saying("monolith");
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    fixture.request(&format!("GET /a HTTP/1.1\r\nhost: a\r\n{headers}\r\n"));
    upstream.seen().remove(0)
}

#[test]
fn a_valid_trace_reaches_the_upstream_as_it_is() {
    let seen = seen(&format!("traceparent: {GIVEN}\r\ntracestate: a=1\r\ntracestate: b=2\r\n"));
    assert_eq!((seen.all("traceparent"), seen.all("tracestate")), (vec![GIVEN], vec!["a=1", "b=2"]));
}

#[test]
fn an_upstream_never_sees_an_invalid_trace() {
    for headers in [
        "".to_owned(),
        "traceparent: x\r\ntracestate: a=1\r\n".to_owned(),
        format!("traceparent: {GIVEN}\r\ntraceparent: {GIVEN}\r\n"),
        format!("traceparent: {}\r\n", GIVEN.to_uppercase()),
    ] {
        let seen = seen(&headers);
        let [parent] = seen.all("traceparent")[..] else { panic!("{seen:?}") };
        let fields: Vec<usize> = parent.split('-').map(str::len).collect();
        assert_eq!(fields, [2, 32, 16, 2], "{parent}");
        assert!(parent.starts_with("00-") && parent.ends_with("-00") && parent != GIVEN, "{parent}");
        assert!(seen.all("tracestate").is_empty());
    }
}
