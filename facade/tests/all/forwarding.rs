//! What arrives at the upstream, what comes back, and when.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use crate::support::{Fixture, Message, Upstream, eventually, ok};

fn in_front_of(upstream: &Upstream) -> Fixture {
    Fixture::new(upstream.address, Upstream::nobody())
}

#[test]
fn a_request_arrives_as_it_was_but_for_what_concerns_one_connection() {
    let upstream = Upstream::saying("hello");
    let fixture = in_front_of(&upstream);
    let answer = fixture.request(
        "POST /a%20b/../c?q=1&q=2 HTTP/1.1\r\nHost: shop:8080\r\nContent-Length: 3\r\nX-A: 1\r\nX-A: 2\r\n\
         Connection: x-gone, keep-alive\r\nX-Gone: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nProxy: http://evil\r\n\
         X-Forwarded-For: 198.51.100.9\r\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\nabc",
    );
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    assert_eq!(answer.header("banyan-side"), Some("monolith"));
    let seen = upstream.seen().remove(0);
    assert_eq!(seen.first_line, "POST /a%20b/../c?q=1&q=2 HTTP/1.1");
    assert_eq!(seen.text(), "abc");
    assert_eq!(seen.header("host"), Some("shop:8080"));
    assert_eq!(seen.all("x-a"), ["1", "2"]);
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host"), Some("shop:8080"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("via"), Some("1.1 banyan"));
    assert_eq!(seen.header("traceparent"), Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    assert_eq!(seen.header("x-request-id"), answer.header("x-request-id"));
    for gone in ["connection", "x-gone", "keep-alive", "upgrade", "proxy"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
}

#[test]
fn an_answer_comes_back_as_it_was_but_for_what_concerns_one_connection() {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 418 Short And Stout\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: x-gone\r\nX-Gone: 1\r\n\
          Keep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nhi"
            .to_vec()
    });
    let answer = in_front_of(&upstream).get("/");
    assert_eq!(answer.first_line, "HTTP/1.1 418 Short And Stout");
    assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(
        (answer.header("x-gone"), answer.header("keep-alive"), answer.text().as_str()),
        (None, None, "hi")
    );
}

#[test]
fn a_sane_request_id_is_kept() {
    let upstream = Upstream::saying("hello");
    let fixture = in_front_of(&upstream);
    let answer = fixture.request("GET / HTTP/1.1\r\nhost: shop\r\nx-request-id: mine-1\r\n\r\n");
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    assert_eq!(upstream.seen()[0].header("x-request-id"), Some("mine-1"));
}

#[test]
fn a_request_body_streams() {
    let (saw, first_arrived) = mpsc::channel();
    let upstream = Upstream::raw(move |mut wire| {
        wire.head().unwrap();
        saw.send(wire.chunk().unwrap()).unwrap();
        let last = wire.chunk().unwrap();
        assert_eq!(wire.chunk(), None);
        wire.send(ok(&String::from_utf8(last).unwrap()));
    });
    let fixture = in_front_of(&upstream);
    let mut wire = fixture.connect();
    wire.send("POST / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n");
    assert_eq!(first_arrived.recv().unwrap(), b"one");
    wire.send("4\r\nlast\r\n0\r\n\r\n");
    assert_eq!(wire.message().unwrap().text(), "last");
}

#[test]
fn an_answer_body_streams() {
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::raw(move |mut wire| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n");
        may_go_on.lock().unwrap().recv().unwrap();
        wire.send("4\r\nlast\r\n0\r\n\r\n");
    });
    let fixture = in_front_of(&upstream);
    let mut wire = fixture.connect();
    wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    wire.head().unwrap();
    assert_eq!(wire.chunk().unwrap(), b"one");
    go_on.send(()).unwrap();
    assert_eq!((wire.chunk().unwrap().as_slice(), wire.chunk()), (&b"last"[..], None));
}

#[test]
fn trailers_pass_both_ways() {
    let upstream = Upstream::answering(|request| {
        assert_eq!(request.trailers, [("x-sum".to_owned(), "7".to_owned())]);
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 8\r\n\r\n".to_vec()
    });
    let answer = in_front_of(&upstream).request(
        "POST / HTTP/1.1\r\nhost: shop\r\nte: trailers\r\nconnection: te\r\ntransfer-encoding: chunked\r\n\
         trailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n",
    );
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "8".to_owned())]);
    assert_eq!(upstream.seen()[0].header("te"), Some("trailers"));
    assert_eq!(
        (upstream.seen()[0].header("trailer"), answer.header("trailer")),
        (Some("x-sum"), Some("x-sum"))
    );
}

#[test]
fn trailers_are_announced_only_where_they_can_come() {
    let upstream = Upstream::answering(|request| {
        let framing = match request.first_line.contains("/chunked") {
            true => "transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 8\r\n\r\n",
            false => "content-length: 2\r\ntrailer: x-sum\r\n\r\nhi",
        };
        format!("HTTP/1.1 200 OK\r\n{framing}").into_bytes()
    });
    let fixture = in_front_of(&upstream);
    let ask = |path: &str, more: &str| {
        let answer = fixture.request(&format!("GET {path} HTTP/1.1\r\nhost: shop\r\n{more}\r\n"));
        assert_eq!(answer.text(), "hi");
        (answer.header("trailer").is_some(), !answer.trailers.is_empty())
    };
    let wanted = "connection: te\r\nte: deflate\r\nte: trailers\r\n";
    assert_eq!(ask("/chunked", wanted), (true, true));
    assert_eq!(ask("/chunked", ""), (false, false));
    assert_eq!(ask("/chunked", "connection: te\r\nte: deflate\r\n"), (false, false));
    assert_eq!(ask("/whole", wanted), (false, false));

    let post = "POST / HTTP/1.1\r\nhost: shop\r\n";
    fixture.request(&format!("{post}trailer: x-sum\r\ncontent-length: 2\r\n\r\nhi"));
    assert_eq!(upstream.seen().last().unwrap().header("trailer"), None);
}

#[test]
fn trailers_that_were_not_announced_are_dropped() {
    let upstream = Upstream::saying("hello");
    let fixture = in_front_of(&upstream);
    let post = |announced: &str| {
        let head = format!("POST / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n{announced}");
        let body = "2\r\nhi\r\n0\r\nx-sum: 7\r\nx-other: 8\r\n\r\n";
        assert_eq!(fixture.request(&format!("{head}\r\n{body}")).status(), 200);
        upstream.seen().pop().unwrap().trailers
    };
    assert_eq!(post(""), []);
    assert_eq!(post("trailer: X-Sum\r\n"), [("x-sum".to_owned(), "7".to_owned())]);
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it() {
    let upstream = Upstream::saying("hello");
    let fixture = in_front_of(&upstream);
    let mut wire = fixture.connect();
    wire.send("PUT / HTTP/1.1\r\nhost: shop\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    assert_eq!(wire.head().unwrap().status(), 100);
    wire.send("body");
    assert_eq!(wire.message().unwrap().text(), "hello");
    assert_eq!(upstream.seen()[0].text(), "body");
}

#[test]
fn a_get_with_a_body_keeps_it() {
    let upstream = Upstream::saying("hello");
    let fixture = in_front_of(&upstream);
    fixture.request("GET / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    fixture.request("GET / HTTP/1.1\r\nhost: shop\r\ncontent-length: 3\r\n\r\nabc");
    let bodies: Vec<_> = upstream.seen().iter().map(Message::text).collect();
    assert_eq!(bodies, ["hi", "abc"]);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::answering(|request| ok(&request.first_line));
    let fixture = in_front_of(&upstream);
    let mut wire = fixture.connect();
    let requests: String =
        (0..5).map(|number| format!("GET /{number} HTTP/1.1\r\nhost: shop\r\n\r\n")).collect();
    wire.send(requests);
    for number in 0..5 {
        assert_eq!(wire.message().unwrap().text(), format!("GET /{number} HTTP/1.1"));
    }
}

#[test]
fn answers_without_a_body_keep_the_connection_in_step() {
    let upstream = Upstream::answering(|request| match request.first_line.as_str() {
        "HEAD / HTTP/1.1" => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_vec(),
        "DELETE / HTTP/1.1" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        _ => ok("there"),
    });
    let fixture = in_front_of(&upstream);
    let mut wire = fixture.connect();
    wire.send("HEAD / HTTP/1.1\r\nhost: shop\r\n\r\n");
    let head = wire.head().unwrap();
    assert_eq!((head.status(), head.header("content-length")), (200, Some("5")));
    wire.send("DELETE / HTTP/1.1\r\nhost: shop\r\n\r\n");
    assert_eq!(wire.head().unwrap().status(), 204);
    wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    assert_eq!(wire.message().unwrap().text(), "there");
}

#[test]
fn an_answer_that_ends_with_its_connection_is_passed_whole() {
    let upstream = Upstream::raw(|mut wire| {
        wire.head().unwrap();
        wire.send("HTTP/1.0 200 OK\r\n\r\nold times");
    });
    assert_eq!(in_front_of(&upstream).get("/").text(), "old times");
}

#[test]
fn upstream_connections_are_reused() {
    let connections = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&connections);
    let upstream = Upstream::raw(move |mut wire| {
        *counter.lock().unwrap() += 1;
        while wire.message().is_some() {
            wire.send(ok("hi"));
        }
    });
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| settings.workers = 1);
    let mut wire = fixture.connect();
    for _ in 0..20 {
        wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
        wire.message().unwrap();
    }
    // One answer may overtake the news that its connection is free again.
    assert!(*connections.lock().unwrap() <= 2);
}

#[test]
fn a_stopping_facade_lets_requests_end() {
    let (arrived, has_arrived) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::raw(move |mut wire| {
        wire.head().unwrap();
        arrived.send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        wire.send(ok("in time"));
    });
    let fixture = in_front_of(&upstream);
    let address = fixture.facade.address();
    let mut wire = fixture.connect();
    wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    has_arrived.recv().unwrap();
    let Fixture { facade, .. } = fixture;
    let stopping = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(facade.stop(crate::support::PATIENCE));
    });
    eventually("the listener closes", || std::net::TcpStream::connect(address).is_err());
    go_on.send(()).unwrap();
    assert_eq!(wire.message().unwrap().text(), "in time");
    stopping.join().unwrap();
}
