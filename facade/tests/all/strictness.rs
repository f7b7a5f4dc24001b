//! Requests that two readers could read differently do not get through.

use crate::counting::{Counter, exchange};
use crate::support::{Fixture, Upstream, ok};

#[test]
fn a_refusal_comes_in_its_turn_and_says_why() {
    let upstream = Upstream::answering(|message| {
        // Long enough for the second request to be read while this one is answered.
        std::thread::sleep(std::time::Duration::from_millis(50));
        ok(&message.first_line)
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost : a\r\n\r\n");
    assert_eq!(wire.message().unwrap().text(), "GET /first HTTP/1.1");
    let refusal = wire.message().unwrap();
    assert_eq!(
        (refusal.status(), refusal.header("content-type"), refusal.header("connection")),
        (400, Some("application/problem+json"), Some("close"))
    );
    let problem = refusal.json();
    assert_eq!(problem["detail"], "a header's name is not a word with a colon right behind it");
    assert_eq!(problem["instance"].as_str(), refusal.header("x-request-id"));
    assert!(wire.is_closed());
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_head_that_comes_byte_by_byte_is_read_as_one() {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    let request =
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n";
    for _ in 0..2 {
        request.bytes().for_each(|byte| wire.send([byte]));
        assert_eq!(wire.message().unwrap().text(), "hello");
    }
    assert_eq!(upstream.seen()[1].text(), "abc");
}

#[test]
fn a_client_that_has_much_to_say_still_hears_its_refusal() {
    let fixture = Fixture::new(Upstream::nobody(), Upstream::nobody());
    for _ in 0..10 {
        let mut wire = fixture.connect();
        wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n");
        wire.send(vec![b'x'; 512 * 1024]);
        assert_eq!(wire.message().unwrap().status(), 400);
        assert!(wire.is_closed());
    }
}

#[test]
fn a_client_that_has_said_its_last_still_hears_its_refusal() {
    let fixture = Fixture::new(Upstream::nobody(), Upstream::nobody());
    let answers = exchange(fixture.facade.address(), &[b"GET / HTTP/1.1\r\nbad\r\n\r\n"], true).unwrap();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [400]);
}

#[test]
fn a_chunk_that_is_wrong_late_breaks_the_request_off() {
    let upstream = Counter::start();
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    wire.send("3 \r\nabc\r\n0\r\n\r\n");
    assert_eq!(wire.message().unwrap().status(), 400);
    assert!(wire.is_closed());
    assert_eq!(upstream.take(), (vec![], vec![]));
}

#[test]
fn unusual_but_plain_requests_get_through() {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    for (bytes, line) in [
        ("GET http://a/x?y HTTP/1.1\r\nhost: a\r\n\r\n", "GET /x?y HTTP/1.1"),
        ("GET http://a HTTP/1.1\r\nhost: a\r\n\r\n", "GET / HTTP/1.1"),
        ("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", "OPTIONS * HTTP/1.1"),
        ("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1"),
        ("BREW /pot HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", "BREW /pot HTTP/1.1"),
        ("GET http://h/api/v1/users/1 HTTP/1.1\r\nHost: h\r\n\r\n", "GET /api/v1/users/1 HTTP/1.1"),
        ("GET HTTP://h:80/x HTTP/1.1\r\nHost: H:80\r\n\r\n", "GET /x HTTP/1.1"),
        ("GET http://a?y HTTP/1.1\r\nhost: a\r\n\r\n", "GET /?y HTTP/1.1"),
    ] {
        assert_eq!(fixture.request(bytes).status(), 200, "{bytes}");
        assert_eq!(upstream.seen().last().unwrap().first_line, line);
    }
    let without_host = &upstream.seen()[3];
    assert_eq!(without_host.header("host"), Some(upstream.address.to_string().as_str()));
}

#[test]
fn another_spelling_of_a_path_does_not_lead_around_its_context() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let fixture = Fixture::new(monolith.address, service.address);
    fixture.set("100", Some(control::Side::Service));
    for path in ["/users/7", "/%75sers/7", "//users/7", "/./users/7", "/x/../users/7"] {
        assert_eq!(fixture.get(path).text(), "service", "{path}");
    }
    assert_eq!(fixture.get("/usersx").text(), "monolith");
}

#[test]
fn an_absolute_target_is_routed_by_its_path() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let fixture = Fixture::new(monolith.address, service.address);
    fixture.set("100", Some(control::Side::Service));
    let answer = fixture.request("GET http://h/users/1 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(answer.text(), "service");
    assert_eq!(service.seen()[0].header("host"), Some("h"));
}

#[test]
fn a_private_path_is_unknown_in_every_spelling() {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::with(upstream.address, upstream.address, |settings| {
        settings.private = vec!["/replica".to_owned(), "/internal/".to_owned()];
    });
    for path in [
        "/replica",
        "/replica/users/7?x=1",
        "//replica/users/7",
        "/%72eplica",
        "/x/../replica",
        "/x%2F..%2freplica",
        "/replica%2fusers",
        "/internal",
        "/users/../internal/v1",
        "http://shop/internal",
    ] {
        let answer = fixture.get(path);
        assert_eq!(
            (answer.status(), answer.header("content-type"), answer.header("banyan-side")),
            (404, Some("application/problem+json"), None),
            "{path}"
        );
    }
    let put = "PUT /replica/users/7 HTTP/1.1\r\nhost: shop\r\ncontent-length: 2\r\n\r\n{}";
    assert_eq!(fixture.request(put).status(), 404);
    assert_eq!(upstream.seen().len(), 0);
    for path in ["/replicas", "/x/internal", "/?/replica"] {
        assert_eq!(fixture.get(path).text(), "hello", "{path}");
    }
}
