//! Requests that two readers could read differently do not get through.

use crate::support::{Fixture, Upstream};

#[test]
fn ambiguous_requests_are_refused_and_reach_nobody() {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let cases = [
        ("no host", "GET / HTTP/1.1\r\n\r\n", 400),
        ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        ("host with path", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
        ("host with user", "GET / HTTP/1.1\r\nhost: u@a\r\n\r\n", 400),
        ("another host in the target", "GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("no slash", "GET x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("star", "GET * HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("connect", "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", 501),
        ("trace", "TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 501),
        (
            "chunked twice",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "another coding",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "two lengths",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            400,
        ),
        ("bare length sign", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na", 400),
        ("space before colon", "GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
    ];
    for (what, bytes, status) in cases {
        let mut wire = fixture.connect();
        wire.send(bytes);
        assert_eq!(wire.message().unwrap().status(), status, "{what}");
        assert!(wire.is_closed(), "{what}: the connection stays open");
    }
    assert_eq!(upstream.seen().len(), 0);
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
