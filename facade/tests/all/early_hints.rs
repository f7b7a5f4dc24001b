//! Interim answers of upstreams (RFC 9110 §15.2), 103 Early Hints above all, on their way to clients.
//!
//! Invariant: an answer is the same with and without the hints before it.

use std::sync::{Mutex, mpsc};

use crate::foreign::curl;
use crate::support::{Fixture, Upstream, Wire, ok};

const HINT: &str =
    "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-own\r\nX-Own: 1\r\n\r\n";
const GET: &str = "GET /a HTTP/1.1\r\nhost: shop\r\n\r\n";

fn assert_hint(wire: &mut Wire) {
    let hint = wire.head().unwrap();
    assert_eq!(
        (hint.status(), hint.header("link"), hint.header("via")),
        (103, Some("</a.css>; rel=preload"), Some("1.1 banyan"))
    );
    assert_eq!((hint.header("connection"), hint.header("x-own")), (None, None));
}

#[test]
fn a_hint_reaches_the_client_before_the_answer_is_there() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::raw(move |mut wire| {
        while wire.head().is_some() {
            wire.send(&HINT[..40]);
            wire.send(&HINT[40..]);
            may_go_on.lock().unwrap().recv().unwrap();
            wire.send(HINT);
            may_go_on.lock().unwrap().recv().unwrap();
            wire.send(ok("hello"));
        }
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    for _ in 0..3 {
        wire.send(GET);
        for _ in 0..2 {
            assert_hint(&mut wire);
            go_on.send(()).unwrap();
        }
        assert_eq!(wire.message().unwrap().text(), "hello");
    }
}

#[test]
fn hints_that_come_with_their_answer_stand_before_it_and_behind_the_answer_before() {
    let upstream =
        Upstream::answering(|request| [HINT.as_bytes(), HINT.as_bytes(), &ok(&request.first_line)].concat());
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    let requests: Vec<_> = (0..5).map(|number| GET.replace("/a", &format!("/{number}"))).collect();
    wire.send(requests.concat());
    for number in 0..5 {
        assert_hint(&mut wire);
        assert_hint(&mut wire);
        assert_eq!(wire.message().unwrap().text(), format!("GET /{number} HTTP/1.1"));
    }
}

#[test]
fn a_hint_does_not_get_into_an_answer_that_its_client_has_yet_to_read() {
    const LARGE: usize = 8_000_000;
    let upstream = Upstream::answering(|request| match request.first_line.as_str() {
        "GET /a HTTP/1.1" => ok(&"x".repeat(LARGE)),
        _ => [HINT.as_bytes(), &ok("hinted")].concat(),
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send([GET, &GET.replace("/a", "/b")].concat());
    // Longer than it takes to fill what lies between; nothing depends on it but how hard the test is.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let large = wire.message().unwrap();
    assert!(large.body.len() == LARGE && large.body.iter().all(|byte| *byte == b'x'));
    assert_hint(&mut wire);
    assert_eq!(wire.message().unwrap().text(), "hinted");
}

#[test]
fn who_knows_no_hints_gets_none() {
    let upstream = Upstream::answering(|_| [HINT.as_bytes(), &ok("hello")].concat());
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| settings.workers = 1);
    let answer = fixture.request("GET /a HTTP/1.0\r\nhost: shop\r\n\r\n");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    let url = format!("http://{}/", fixture.facade.address());
    assert_eq!(curl(&["--http2-prior-knowledge", "-w", " %{http_code}", &url]), "hello 200");
    // What nobody listened to is not left for the next one on the upstream's connection.
    let mut wire = fixture.connect();
    wire.send(GET);
    assert_hint(&mut wire);
    assert_eq!(wire.message().unwrap().text(), "hello");
}

#[test]
fn a_hint_before_a_refused_upload_and_before_a_switch_passes_too() {
    let upstream = Upstream::raw(|mut wire| {
        let head = wire.head().unwrap();
        let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n!";
        let answer = match head.header("upgrade") {
            Some(_) => switch.to_owned(),
            None => "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
        };
        wire.send([HINT, &answer].concat());
        wire.is_closed();
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send("PUT /a HTTP/1.1\r\nhost: shop\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    assert_hint(&mut wire);
    assert_eq!(wire.message().unwrap().status(), 403);
    let mut wire = fixture.connect();
    wire.send("GET /a HTTP/1.1\r\nhost: shop\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
    assert_hint(&mut wire);
    assert_eq!(wire.head().unwrap().status(), 101);
    assert_eq!(wire.exactly(1), b"!");
}
