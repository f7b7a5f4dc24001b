//! `Expect: 100-continue`, and answers that come in pieces.

use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::foreign::{curl, node};
use crate::support::{Fixture, Upstream, ok};

const PUT: &str = "PUT / HTTP/1.1\r\nhost: shop\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";

#[test]
fn a_client_is_told_to_send_when_the_upstream_says_so_and_not_before() {
    let (arrived, has_arrived) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::raw(move |mut wire| {
        arrived.send(wire.head().unwrap()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        wire.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(wire.exactly(4), b"body");
        wire.send(ok("thanks"));
    });
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.limits.continue_ms = 3_600_000;
    });
    let mut wire = fixture.connect();
    wire.send(PUT);
    assert_eq!(has_arrived.recv().unwrap().header("expect"), Some("100-continue"));
    go_on.send(()).unwrap();
    assert_eq!(wire.head().unwrap().status(), 100);
    wire.send("body");
    assert_eq!(wire.message().unwrap().text(), "thanks");
}

#[test]
fn an_upstream_that_answers_at_once_spares_the_client_the_body() {
    let upstream = Upstream::raw(|mut wire| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno");
        // Nothing of a body comes.
        assert!(wire.is_closed());
    });
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.limits.continue_ms = 3_600_000;
    });
    let mut wire = fixture.connect();
    wire.send(PUT);
    let answer = wire.message().unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (401, "no"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(wire.is_closed());
}

#[test]
fn an_upstream_that_asks_and_answers_at_once_spares_the_client_the_body() {
    let upstream = Upstream::raw(|mut wire| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno");
        assert!(wire.is_closed());
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send(PUT);
    let answer = wire.message().unwrap();
    // Whether the client sends its body now cannot be known.
    assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
}

#[test]
fn an_upstream_that_answers_instead_of_asking_is_not_hung_up_on_before_its_end() {
    let (begun, has_begun) = mpsc::channel();
    let has_begun = Mutex::new(has_begun);
    let upstream = Upstream::raw(move |mut wire| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 401 Unauthorized\r\ncontent-length: 4\r\n\r\nno");
        has_begun.lock().unwrap().recv().unwrap();
        // Many servers take the end of what they read for an abort.
        assert!(!wire.has_ended());
        wire.send("no");
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send(PUT);
    assert_eq!(wire.head().unwrap().status(), 401);
    begun.send(()).unwrap();
    assert_eq!(wire.exactly(4), b"nono");
}

#[test]
fn an_upstream_that_never_asks_gets_the_body_all_the_same() {
    let upstream = Upstream::saying("thanks");
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.limits.continue_ms = 50;
    });
    let mut wire = fixture.connect();
    wire.send(PUT);
    assert_eq!(wire.head().unwrap().status(), 100);
    wire.send("body");
    assert_eq!(wire.message().unwrap().text(), "thanks");
}

#[test]
fn an_expectation_of_http_1_0_does_not_count() {
    let upstream = Upstream::saying("thanks");
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let answer = fixture
        .request("PUT / HTTP/1.0\r\nhost: shop\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nbody");
    assert_eq!(answer.text(), "thanks");
    assert_eq!(upstream.seen()[0].header("expect"), None);
}

#[test]
fn an_expectation_that_nobody_meets_is_refused() {
    let upstream = Upstream::saying("thanks");
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    for expectation in ["the-unexpected", "100-continue, the-unexpected"] {
        let mut wire = fixture.connect();
        // The body is held back until the answer is there.
        wire.send(format!(
            "PUT / HTTP/1.1\r\nhost: shop\r\nexpect: {expectation}\r\ncontent-length: 4\r\n\r\n"
        ));
        let refusal = wire.message().unwrap();
        assert_eq!(
            (refusal.status(), refusal.header("content-type"), refusal.header("connection")),
            (417, Some("application/problem+json"), Some("close"))
        );
    }
    let url = format!("http://{}/", fixture.facade.address());
    let out =
        curl(&["--http2-prior-knowledge", "-H", "expect: x", "-o", "/dev/null", "-w", "%{http_code}", &url]);
    assert_eq!(out, "417");
    assert!(upstream.seen().is_empty());
}

#[test]
fn the_head_of_an_answer_does_not_wait_for_its_body() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::raw(move |mut wire| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        may_go_on.lock().unwrap().recv().unwrap();
        wire.send("2\r\nhi\r\n0\r\n\r\n");
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    assert_eq!(wire.head().unwrap().status(), 200);
    go_on.send(()).unwrap();
    assert_eq!(wire.chunk().unwrap(), b"hi");
}

const EVENTS: &str = "
    const server = require('http').createServer((_, response) => {
        response.writeHead(200, {'content-type': 'text/event-stream'});
        let count = 0;
        const timer = setInterval(() => {
            response.write('data: ' + ++count + '\\n\\n');
            if (count == 3) { clearInterval(timer); response.end(); }
        }, 300);
    });
    server.listen(0, '127.0.0.1', () => console.log(server.address().port));";

#[test]
fn events_of_a_server_arrive_one_by_one() {
    let (_node, address) = node(EVENTS);
    let fixture = Fixture::new(address, Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    assert_eq!(wire.head().unwrap().header("content-type"), Some("text/event-stream"));
    let first = wire.chunk().unwrap();
    let since = Instant::now();
    assert_eq!(first, b"data: 1\n\n");
    assert_eq!(
        (wire.chunk().unwrap(), wire.chunk().unwrap()),
        (b"data: 2\n\n".to_vec(), b"data: 3\n\n".to_vec())
    );
    // Held back, they would have come at once.
    assert!(since.elapsed() >= Duration::from_millis(300));
    let url = format!("http://{}/", fixture.facade.address());
    assert_eq!(curl(&["-N", "--http2-prior-knowledge", &url]), "data: 1\n\ndata: 2\n\ndata: 3\n\n");
}
