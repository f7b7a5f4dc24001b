//! Canary reads when the service fails.

use std::net::SocketAddr;

use control::Side;

use crate::support::{Fixture, Upstream, Wire, ok};

/// All reads in canary.
fn canary(service: SocketAddr) -> (Upstream, Fixture) {
    let monolith = Upstream::saying("from the monolith");
    let fixture =
        Fixture::with(monolith.address, service, |settings| settings.timeouts.canary_header_ms = 100);
    fixture.set("100", None);
    (monolith, fixture)
}

fn failing(serve: impl Fn(&mut Wire) + Send + Sync + 'static) -> Upstream {
    Upstream::raw(move |mut wire| {
        wire.head().unwrap();
        serve(&mut wire);
    })
}

fn assert_falls_back(service: SocketAddr, how: &str) {
    let (monolith, fixture) = canary(service);
    let answer = fixture.get("/users/7");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "from the monolith"), "{how}");
    assert_eq!(answer.header("banyan-side"), Some("monolith"), "{how}");
    assert_eq!(answer.header("banyan-fallback"), Some("monolith"), "{how}");
    assert_eq!(monolith.seen().len(), 1, "{how}");
}

#[test]
fn a_canary_read_that_succeeds_comes_from_the_service() {
    let service = Upstream::saying("from the service");
    let (monolith, fixture) = canary(service.address);
    let answer = fixture.get("/users/7");
    assert_eq!((answer.text().as_str(), answer.header("banyan-side")), ("from the service", Some("service")));
    assert_eq!(answer.header("banyan-fallback"), None);
    assert_eq!(monolith.seen().len(), 0);
}

#[test]
fn a_service_that_is_gone_is_stood_in_for() {
    assert_falls_back(Upstream::nobody(), "nobody listens");
}

#[test]
fn a_service_that_fails_is_stood_in_for() {
    for status in [500, 502, 503, 504] {
        let answer = move |_: &_| format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nno").into_bytes();
        assert_falls_back(Upstream::answering(answer).address, "a failing status");
    }
}

#[test]
fn a_service_that_is_silent_is_stood_in_for() {
    assert_falls_back(failing(|wire| while wire.line().is_some() {}).address, "silence");
}

#[test]
fn an_answer_that_breaks_off_is_taken_back() {
    for half in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ncontent-le",
    ] {
        assert_falls_back(failing(move |wire| wire.send(half)).address, half);
    }
}

#[test]
fn answers_of_the_application_do_not_fall_back() {
    for status in [404, 409, 501] {
        let service = Upstream::answering(move |_| {
            format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nno").into_bytes()
        });
        let (_monolith, fixture) = canary(service.address);
        assert_eq!(fixture.get("/users/7").status(), status);
    }
}

#[test]
fn a_large_answer_is_not_held() {
    let size = 1024 * 1024;
    let service = Upstream::answering(move |_| ok(&"x".repeat(size)));
    let (_monolith, fixture) = canary(service.address);
    let answer = fixture.get("/users/7");
    assert_eq!((answer.body.len(), answer.header("banyan-side")), (size, Some("service")));
}

#[test]
fn a_held_answer_keeps_its_trailers() {
    let service = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 8\r\n\r\n".to_vec()
    });
    let (_monolith, fixture) = canary(service.address);
    let answer =
        fixture.request("GET /users/7 HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\n\r\n");
    assert_eq!((answer.text().as_str(), answer.trailers.len()), ("hi", 1));
}

#[test]
fn an_answer_that_trickles_is_passed_on() {
    let service = failing(|wire| {
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nslow");
        while wire.line().is_some() {}
    });
    let monolith = Upstream::saying("from the monolith");
    let fixture = Fixture::with(monolith.address, service.address, |settings| settings.fallback.hold_ms = 50);
    fixture.set("100", None);
    let mut wire = fixture.connect();
    wire.send("GET /users/7 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(wire.head().unwrap().header("banyan-side"), Some("service"));
    assert_eq!(wire.exactly(4), b"slow");
}

#[test]
fn with_both_sides_gone_the_client_is_told() {
    let fixture = Fixture::new(Upstream::nobody(), Upstream::nobody());
    fixture.set("100", None);
    assert_eq!(fixture.get("/users/7").status(), 502);
}

#[test]
fn a_service_that_owns_the_context_is_not_stood_in_for() {
    let (monolith, fixture) = canary(Upstream::nobody());
    fixture.set("100", Some(Side::Service));
    let answer = fixture.get("/users/7");
    assert_eq!((answer.status(), answer.header("banyan-side")), (502, Some("service")));
    assert_eq!(monolith.seen().len(), 0);
}

#[test]
fn a_write_never_falls_back() {
    let (monolith, fixture) = canary(Upstream::nobody());
    fixture.set("100", Some(Side::Service));
    let answer = fixture.request("POST /users HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(answer.status(), 502);
    assert_eq!(monolith.seen().len(), 0);
}
