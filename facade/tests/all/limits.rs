//! What one client may ask for, and how long it may take.

use std::time::Duration;

use facade::settings::Settings;

use crate::foreign::served;
use crate::support::{Fixture, Message, Upstream, Wire, eventually};

fn with(change: impl FnOnce(&mut Settings)) -> (Upstream, Fixture) {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), change);
    (upstream, fixture)
}

fn assert_refused(answer: &Message, status: u16) {
    assert_eq!((answer.status(), answer.header("content-type")), (status, Some("application/problem+json")));
    assert_eq!(answer.json()["status"], status);
}

#[test]
fn a_head_beyond_the_limits_is_refused_and_one_within_is_not() {
    let (upstream, fixture) = with(|settings| {
        settings.limits.header_bytes = 2048;
        settings.limits.header_count = 5;
        settings.limits.target_bytes = 100;
    });
    let get = |target: usize, value: usize, count: usize| {
        let (target, value) = ("t".repeat(target - 1), "v".repeat(value));
        let more: String = (2..count).map(|number| format!("h{number}: 1\r\n")).collect();
        fixture.request(&format!("GET /{target} HTTP/1.1\r\nhost: shop\r\nx: {value}\r\n{more}\r\n"))
    };
    assert_eq!(get(100, 1800, 5).status(), 200);
    assert_refused(&get(101, 1, 2), 414);
    assert_refused(&get(1, 2048, 2), 431);
    assert_refused(&get(1, 1, 6), 431);
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn many_headers_pass_where_the_settings_let_them() {
    let (upstream, fixture) = with(|settings| settings.limits.header_count = 300);
    let headers: String = (0..250).map(|number| format!("h{number}: 1\r\n")).collect();
    assert_eq!(fixture.request(&format!("GET / HTTP/1.1\r\nhost: shop\r\n{headers}\r\n")).status(), 200);
    assert_eq!(upstream.seen()[0].header("h249"), Some("1"));
}

#[test]
fn an_announced_body_beyond_the_limit_never_reaches_the_upstream() {
    let (upstream, fixture) = with(|settings| settings.limits.body_bytes = 10);
    let post = |length: usize| {
        let body = "b".repeat(length);
        fixture.request(&format!("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: {length}\r\n\r\n{body}"))
    };
    assert_eq!(post(10).status(), 200);
    assert_refused(&post(11), 413);
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_body_that_grows_beyond_the_limit_is_refused_and_never_looks_whole() {
    let (saw, seen) = std::sync::mpsc::channel();
    let upstream = Upstream::raw(move |mut wire| {
        wire.head().unwrap();
        let mut chunks = 0;
        while let Some(line) = wire.line() {
            assert_ne!(line, "0", "the body looks whole");
            chunks += 1;
        }
        saw.send(chunks).unwrap();
    });
    let fixture =
        Fixture::with(upstream.address, Upstream::nobody(), |settings| settings.limits.body_bytes = 10);
    let mut wire = fixture.connect();
    wire.send("POST / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n6\r\n123456\r\n");
    wire.send("6\r\n123456\r\n0\r\n\r\n");
    assert_refused(&wire.message().unwrap(), 413);
    assert!(seen.recv().unwrap() <= 2);
}

#[test]
fn a_connection_beyond_the_limit_is_told_and_a_place_that_is_freed_is_taken() {
    let (_upstream, fixture) = with(|settings| settings.limits.connections = 2);
    let ask = |wire: &mut Wire| {
        wire.try_send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
        wire.message()
    };
    let (mut first, mut second, mut third) = (fixture.connect(), fixture.connect(), fixture.connect());
    assert_eq!((ask(&mut first).unwrap().status(), ask(&mut second).unwrap().status()), (200, 200));
    let answer = ask(&mut third).unwrap();
    assert_refused(&answer, 503);
    assert_eq!((answer.header("retry-after"), third.is_closed()), (Some("1"), true));
    drop(first);
    eventually("the place is taken", || {
        ask(&mut fixture.connect()).is_some_and(|answer| answer.status() == 200)
    });
}

#[test]
fn the_last_request_of_a_connection_says_so() {
    let (_upstream, fixture) = with(|settings| settings.limits.requests_per_connection = 2);
    let mut wire = fixture.connect();
    for expected in [None, Some("close")] {
        wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
        assert_eq!(wire.message().unwrap().header("connection"), expected);
    }
    assert!(wire.is_closed());
}

#[test]
fn a_head_that_trickles_is_answered_with_408_however_often_a_byte_comes() {
    let (upstream, fixture) = with(|settings| settings.timeouts.client_header_ms = 300);
    let mut wire = fixture.connect();
    for _ in 0..2 {
        wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
        assert_eq!(wire.message().unwrap().status(), 200);
    }
    let mut writer = fixture.connect();
    writer.send("GET / HTTP/1.1\r\nhost: shop\r\nx: ");
    // The pause between two bytes is what makes it slow.
    while writer.try_send("y") {
        std::thread::sleep(Duration::from_millis(20));
    }
    wire.send("GET / HTT");
    assert_refused(&wire.message().unwrap(), 408);
    assert!(wire.is_closed());
    assert_eq!(upstream.seen().len(), 2);
}

#[test]
fn a_connection_without_a_request_is_let_go() {
    let (_upstream, fixture) = with(|settings| settings.timeouts.client_header_ms = 100);
    assert!(fixture.connect().is_closed());
}

#[test]
fn an_idle_connection_is_let_go_and_counted() {
    let upstream = Upstream::saying("hello");
    let served = served(&upstream, "[limits]\nkeep_alive_ms = 200\n");
    let mut wire = served.connect();
    for _ in 0..3 {
        wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
        assert_eq!(wire.message().unwrap().status(), 200);
    }
    assert!(wire.is_closed());
    assert_eq!(served.metric("banyan_facade_connections_timed_out_total{phase=\"idle\"}"), "1");
    eventually("it is gone", || served.metric("banyan_facade_connections_open") == "0");
}

#[test]
fn a_client_that_does_not_read_its_answer_is_let_go() {
    let (gone, is_gone) = std::sync::mpsc::channel();
    let upstream = Upstream::raw(move |mut wire| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
        while wire.try_send(vec![0; 65536]) {}
        gone.send(()).unwrap();
    });
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.timeouts.body_idle_ms = 300;
    });
    let mut wire = fixture.connect();
    wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    is_gone.recv_timeout(crate::support::PATIENCE).unwrap();
}

#[test]
fn a_body_that_trickles_is_answered_with_408_once_the_grace_is_over() {
    let (_upstream, fixture) = with(|settings| settings.limits.body_bytes_per_s = 1_000);
    let mut wire = fixture.connect();
    wire.send("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 1000\r\n\r\n");
    // The pause between two bytes is what makes it slow.
    while wire.try_send("y") && !wire.has_bytes() {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_refused(&wire.message().unwrap(), 408);
}
