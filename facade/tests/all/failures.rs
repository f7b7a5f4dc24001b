//! Upstreams and clients that are dead, silent, slow or lying.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Fixture, Upstream, Wire, eventually, ok};

/// Answers once per connection, and on the next request closes without a word.
fn closing_on_second() -> (Upstream, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let memory = Arc::clone(&seen);
    let upstream = Upstream::raw(move |mut wire: Wire| {
        for is_first in [true, false] {
            let Some(message) = wire.message() else { return };
            memory.lock().unwrap().push(message.first_line);
            if is_first {
                wire.send(ok("hi"));
            }
        }
    });
    (upstream, seen)
}

#[test]
fn a_safe_request_on_a_stale_connection_is_sent_again() {
    let (upstream, seen) = closing_on_second();
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| settings.workers = 1);
    let mut wire = fixture.connect();
    let mut sent = 0;
    eventually("a connection is reused", || {
        wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
        assert_eq!(wire.message().unwrap().status(), 200);
        sent += 1;
        seen.lock().unwrap().len() > sent
    });
}

#[test]
fn an_unsafe_request_that_was_sent_is_not_sent_again() {
    let (upstream, seen) = closing_on_second();
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| settings.workers = 1);
    let mut wire = fixture.connect();
    let mut answers = Vec::new();
    eventually("a connection is reused", || {
        wire.send("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\n\r\n");
        answers.push(wire.message().unwrap().status());
        answers.last() == Some(&502)
    });
    assert_eq!(seen.lock().unwrap().len(), answers.len());
}

#[test]
fn a_dead_upstream_is_told_as_502() {
    let fixture = Fixture::new(Upstream::nobody(), Upstream::nobody());
    let answer = fixture.get("/");
    assert_eq!((answer.status(), answer.header("content-type")), (502, Some("application/problem+json")));
    let problem = answer.json();
    assert_eq!(problem["status"], 502);
    assert_eq!(problem["title"], "Bad Gateway");
    assert!(problem["detail"].as_str().unwrap().contains("monolith cannot be reached"), "{problem}");
    assert_eq!(problem["instance"].as_str(), answer.header("x-request-id"));
}

#[test]
fn a_body_that_is_broken_in_what_came_with_its_head_is_told_as_502() {
    for broken in ["ZZ\r\n", "0\r\nx : 1\r\n\r\n", "5\r\nhelloXX"] {
        let upstream = Upstream::answering(move |_| {
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n{broken}")
                .into_bytes()
        });
        assert_eq!(Fixture::new(upstream.address, Upstream::nobody()).get("/").status(), 502, "{broken:?}");
    }
}

#[test]
fn an_upstream_that_lies_is_told_as_502() {
    for lie in [
        "garbage\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        "",
    ] {
        let upstream = Upstream::raw(move |mut wire| {
            wire.head().unwrap();
            wire.send(lie);
        });
        assert_eq!(Fixture::new(upstream.address, Upstream::nobody()).get("/").status(), 502, "{lie:?}");
    }
}

fn hasty(settings: &mut facade::settings::Settings) {
    settings.timeouts.header_ms = 50;
    settings.timeouts.body_idle_ms = 50;
}

#[test]
fn a_silent_upstream_is_told_as_504() {
    let upstream = Upstream::raw(|mut wire| while wire.line().is_some() {});
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), hasty);
    assert_eq!(fixture.get("/").status(), 504);
}

#[test]
fn a_slow_upload_does_not_count_as_a_silent_upstream() {
    let upstream = Upstream::saying("got it");
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.timeouts.header_ms = 200;
    });
    let mut wire = fixture.connect();
    wire.send("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 10\r\n\r\n");
    for _ in 0..10 {
        // This pause is what is tested: pieces that take longer together than the answer may.
        std::thread::sleep(Duration::from_millis(50));
        wire.send("x");
    }
    assert_eq!(wire.message().unwrap().text(), "got it");
}

#[test]
fn clients_that_stop_sending_are_not_held_against_the_upstream() {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.timeouts.header_ms = 50;
        settings.timeouts.body_idle_ms = 200;
    });
    let mut clients: Vec<_> = (0..30).map(|_| fixture.connect()).collect();
    for client in &mut clients {
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc");
    }
    for client in &mut clients {
        assert_eq!(client.message().unwrap().status(), 408);
    }
    assert_eq!(fixture.get("/").status(), 200);
}

#[test]
fn a_client_that_stops_sending_is_told_as_408() {
    let upstream = Upstream::saying("never");
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.timeouts.body_idle_ms = 50;
    });
    let answer = fixture.request("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 10\r\n\r\nx");
    assert_eq!(answer.status(), 408);
}

#[test]
fn an_answer_that_stops_half_way_is_cut_off() {
    let upstream = Upstream::raw(|mut wire| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        while wire.line().is_some() {}
    });
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), hasty);
    let mut wire = fixture.connect();
    wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    assert_eq!(wire.head().unwrap().status(), 200);
    assert_eq!(wire.exactly(4), b"half");
    assert!(wire.is_closed());
}
