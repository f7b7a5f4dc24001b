//! Where requests come from, and what is said of them on the way, seen by a real upstream.

use std::sync::{Arc, OnceLock};

use crate::support::{Fixture, Upstream, Wire};

const SPOOFED: &str = "GET / HTTP/1.1\r\nhost: shop\r\nx-forwarded-for: 198.51.100.9\r\nforwarded: for=198.51.100.9\r\n\
                       x-forwarded-proto: https\r\nx-real-ip: 198.51.100.9\r\nvia: 1.0 front\r\n\r\n";

#[test]
fn a_client_cannot_choose_where_it_comes_from() {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let port = fixture.facade.address().port().to_string();
    let answer = fixture.request(SPOOFED);
    assert_eq!(answer.all("via"), ["1.1 banyan"]);
    let seen = upstream.seen().remove(0);
    assert_eq!(seen.all("forwarded"), ["for=127.0.0.1;proto=http;host=\"shop\""]);
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!((seen.header("x-forwarded-proto"), seen.header("x-real-ip")), (Some("http"), None));
    assert_eq!(seen.header("x-forwarded-port"), Some(port.as_str()));
    assert_eq!(seen.all("via"), ["1.0 front", "1.1 banyan"]);
}

#[test]
fn a_trusted_proxy_is_believed() {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.forwarded.trusted = vec!["127.0.0.0/8".to_owned()];
        settings.forwarded.pseudonym = "edge-1".to_owned();
    });
    assert_eq!(fixture.request(SPOOFED).all("via"), ["1.1 edge-1"]);
    let seen = upstream.seen().remove(0);
    assert_eq!(seen.all("x-forwarded-for"), ["198.51.100.9, 127.0.0.1"]);
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.all("forwarded"), ["for=198.51.100.9, for=127.0.0.1;proto=http;host=\"shop\""]);
}

#[test]
fn naming_a_forwarded_header_in_connection_does_not_remove_it() {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    fixture.request("GET / HTTP/1.1\r\nhost: shop\r\nconnection: x-forwarded-for, forwarded, via\r\n\r\n");
    let seen = upstream.seen().remove(0);
    assert_eq!((seen.header("x-forwarded-for"), seen.header("via")), (Some("127.0.0.1"), Some("1.1 banyan")));
    assert!(seen.header("forwarded").is_some());
}

#[test]
fn an_upstream_that_leads_back_is_a_loop() {
    let back: Arc<OnceLock<std::net::SocketAddr>> = Arc::default();
    let target = Arc::clone(&back);
    let upstream = Upstream::raw(move |mut wire| {
        let request = wire.head().unwrap();
        let mut onward = Wire::connect(*target.get().unwrap());
        let lines: String =
            request.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        onward.send(format!("{}\r\n{lines}\r\n", request.first_line));
        let answer = onward.message().unwrap();
        wire.send(format!("{}\r\ncontent-length: 0\r\n\r\n", answer.first_line));
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    back.set(fixture.facade.address()).unwrap();
    assert_eq!(fixture.get("/").status(), 508);
}

#[test]
fn naming_our_headers_in_connection_removes_the_clients_and_never_ours() {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = fixture.request(&format!(
        "GET / HTTP/1.1\r\nhost: shop\r\nx-request-id: theirs\r\ntraceparent: {trace}\r\nx-secret: 1\r\n\
         connection: X-Request-Id, traceparent, forwarded, x-forwarded-for, via, x-secret\r\n\r\n"
    ));
    let seen = &upstream.seen()[0];
    let id = seen.header("x-request-id").unwrap();
    assert_eq!((id.len(), answer.header("x-request-id")), (32, Some(id)));
    assert!(seen.header("traceparent").is_some_and(|ours| ours.len() == 55 && ours != trace));
    for name in ["forwarded", "x-forwarded-for", "via"] {
        assert!(seen.header(name).is_some(), "{name}");
    }
    assert_eq!(seen.header("x-secret"), None);
}
