//! Answers that are there before the request's body is: the client hears them, however much it still sends.

use crate::support::{Fixture, Message, Upstream, Wire, eventually, replicated, who};

const LENGTH: usize = 1024 * 1024;

/// Sends head and body, and only then looks for an answer.
fn post(wire: &mut Wire, path: &str, length: usize) -> Message {
    wire.send(format!("POST {path} HTTP/1.1\r\nhost: shop\r\ncontent-length: {length}\r\n\r\n"));
    wire.send(vec![b'x'; length]);
    wire.message().unwrap()
}

/// The answer has this status, and the connection serves the next request too.
fn assert_heard(wire: &mut Wire, path: &str, status: u16) {
    for _ in 0..2 {
        let answer = post(wire, path, LENGTH);
        assert_eq!(
            (answer.status(), answer.header("content-type"), answer.header("connection")),
            (status, Some("application/problem+json"), None),
            "{path}"
        );
    }
}

#[test]
fn a_dead_upstream_is_told_after_the_body_and_the_connection_stays() {
    let fixture = Fixture::new(Upstream::nobody(), Upstream::nobody());
    assert_heard(&mut fixture.connect(), "/", 502);
}

#[test]
fn a_chunked_body_is_read_to_its_end_too() {
    let fixture = Fixture::new(Upstream::nobody(), Upstream::nobody());
    let mut wire = fixture.connect();
    for _ in 0..2 {
        wire.send("POST / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n");
        for _ in 0..16 {
            wire.send([b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat());
        }
        wire.send("0\r\nx-end: yes\r\n\r\n");
        assert_eq!(wire.message().unwrap().status(), 502);
    }
}

#[test]
fn an_upstream_that_breaks_off_in_the_middle_is_told() {
    for take in [0, 1_000] {
        let upstream = Upstream::raw(move |mut wire| {
            wire.head().unwrap();
            wire.exactly(take);
        });
        let fixture = Fixture::new(upstream.address, Upstream::nobody());
        assert_heard(&mut fixture.connect(), "/", 502);
    }
}

#[test]
fn an_upstream_that_stops_reading_is_told_as_504() {
    let upstream = Upstream::raw(|mut wire| {
        wire.head().unwrap();
        std::thread::park();
    });
    // More than fits into the sockets' buffers on the way.
    let fixture =
        Fixture::with(upstream.address, Upstream::nobody(), |settings| settings.timeouts.header_ms = 100);
    assert_eq!(post(&mut fixture.connect(), "/", 4 * LENGTH).status(), 504);
}

#[test]
fn a_write_that_was_held_in_vain_is_told() {
    let fixture = Fixture::with(Upstream::nobody(), Upstream::nobody(), |settings| {
        replicated(settings);
        settings.control.hold_limit_ms = 300;
    });
    fixture.prepare_switch();
    let hold = fixture.store.begin_switch("users", control::Side::Service, &who()).unwrap();
    eventually("writes are held", || fixture.acked(|ack| ack.token == hold.token && ack.held));
    assert_heard(&mut fixture.connect(), "/users", 502);
}

const TOO_LARGE: &str = "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nno!";

#[test]
fn an_upstreams_own_early_answer_is_heard() {
    let upstream = Upstream::raw(|mut wire| {
        wire.head().unwrap();
        wire.send(TOO_LARGE);
        // It reads no further, and closes a little later.
        std::thread::sleep(std::time::Duration::from_millis(50));
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    for _ in 0..10 {
        assert_eq!(post(&mut fixture.connect(), "/", 4 * LENGTH).status(), 413);
    }
}

#[test]
fn an_early_answer_of_an_upstream_that_closes_at_once_is_heard_or_told() {
    let upstream = Upstream::raw(|mut wire| {
        wire.head().unwrap();
        wire.send(TOO_LARGE);
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    for _ in 0..20 {
        // The upstream's reset may overtake its answer.
        let status = post(&mut fixture.connect(), "/", LENGTH).status();
        assert!(status == 413 || status == 502, "{status}");
    }
}

#[test]
fn an_upstream_that_answers_early_and_reads_on_gets_the_body_of_a_client_that_pauses() {
    let (got, has_got) = std::sync::mpsc::channel();
    let upstream = Upstream::raw(move |mut wire| {
        wire.head().unwrap();
        wire.send(crate::support::ok("go on"));
        got.send(wire.exactly(8)).unwrap();
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 8\r\n\r\nhalf");
    assert_eq!(wire.message().unwrap().text(), "go on");
    // Longer than a connection lasts on which nothing is under way.
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    wire.send("half");
    assert_eq!(has_got.recv().unwrap(), b"halfhalf");
}

#[test]
fn a_body_beyond_reason_is_not_read_and_the_connection_closes() {
    let fixture = Fixture::new(Upstream::nobody(), Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 1000000000\r\n\r\nx");
    let answer = wire.message().unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (502, Some("close")));
    assert!(wire.is_closed());
}

#[test]
fn a_body_that_stops_is_not_waited_for_long() {
    let fixture = Fixture::new(Upstream::nobody(), Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 10\r\n\r\nx");
    let answer = wire.message().unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (502, Some("close")));
    assert!(wire.is_closed());
}

#[test]
fn a_client_that_waits_to_be_told_is_not_told_to_send() {
    let fixture = Fixture::new(Upstream::nobody(), Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send("POST / HTTP/1.1\r\nhost: shop\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\r\n");
    let answer = wire.message().unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (502, Some("close")));
    assert!(wire.is_closed());
}

#[test]
fn a_refusal_before_routing_is_heard() {
    let fixture = Fixture::new(Upstream::nobody(), Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send(format!("POST / HTTP/1.1\r\nhost: a/b\r\ncontent-length: {LENGTH}\r\n\r\n"));
    wire.send(vec![b'x'; LENGTH]);
    assert_eq!(wire.message().unwrap().status(), 400);
    assert!(wire.is_closed());
}

#[test]
fn a_facade_ends_while_a_body_is_under_way() {
    let upstream = Upstream::raw(|mut wire| {
        wire.head().unwrap();
        std::thread::park();
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 10\r\n\r\nx");
    drop(fixture);
    assert!(wire.is_closed());
}
