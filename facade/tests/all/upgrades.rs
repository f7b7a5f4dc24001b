//! Upgrades: WebSocket in front of Node, and what upstreams and clients may not do.

use std::sync::{Arc, Mutex, mpsc};

use crate::foreign::{node, node_client, served};
use crate::support::{Fixture, Upstream, Wire, eventually, ok};

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: shop\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// Answers the handshake, then sends back what it gets.
pub(crate) const ECHO: &str = "
    const server = require('http').createServer((_, response) => { response.statusCode = 426; response.end('no'); });
    server.on('upgrade', (request, socket, head) => {
        const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
        const accept = require('crypto').createHash('sha1').update(key).digest('base64');
        socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n' +
                     'Sec-WebSocket-Accept: ' + accept + '\\r\\n\\r\\n');
        socket.write(head);
        socket.pipe(socket);
    });
    server.listen(0, '127.0.0.1', () => console.log(server.address().port));";

/// An upstream's 101 to a request with this key, with the proof that it was read.
pub(crate) fn switch(key: &str) -> String {
    use base64::Engine;
    let mixed = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let proof = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, mixed.as_bytes());
    let proof = base64::engine::general_purpose::STANDARD.encode(proof);
    SWITCH.replace("\r\n\r\n", &format!("\r\nsec-websocket-accept: {proof}\r\n\r\n"))
}

/// Sends the request and reads the 101.
fn upgraded(wire: &mut Wire) {
    wire.send(ASK);
    let head = wire.head().unwrap();
    assert_eq!(
        (head.status(), head.header("upgrade"), head.header("connection")),
        (101, Some("websocket"), Some("upgrade"))
    );
}

#[test]
fn a_websocket_passes_both_ways() {
    let (_node, address) = node(ECHO);
    let fixture = Fixture::new(address, Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send(ASK);
    let head = wire.head().unwrap();
    assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    for size in [1, 100, 300_000] {
        let sent = vec![b'x'; size];
        wire.send(&sent);
        assert_eq!(wire.exactly(size), sent);
    }
}

#[test]
fn nothing_reaches_the_upstream_before_its_101_and_all_of_it_after() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let (saw, early) = mpsc::channel();
    let upstream = Upstream::raw(move |mut wire| {
        saw.send(wire.head().unwrap()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        wire.send(SWITCH);
        assert_eq!(wire.exactly(5), b"early");
        wire.send("late");
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send(format!("{ASK}early"));
    let head = early.recv().unwrap();
    assert_eq!((head.header("upgrade"), head.header("connection")), (Some("websocket"), Some("upgrade")));
    go_on.send(()).unwrap();
    assert_eq!(wire.head().unwrap().status(), 101);
    assert_eq!(wire.exactly(4), b"late");
}

#[test]
fn what_follows_a_refused_upgrade_is_a_request_like_any_other() {
    let upstream = Upstream::answering(|request| ok(&request.first_line));
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    wire.send(format!("{ASK}GET /next HTTP/1.1\r\nhost: shop\r\n\r\n"));
    assert_eq!(wire.message().unwrap().text(), "GET /chat HTTP/1.1");
    assert_eq!(wire.message().unwrap().text(), "GET /next HTTP/1.1");
    assert_eq!(upstream.seen().len(), 2);
}

#[test]
fn an_upstream_that_switches_unasked_or_to_something_else_gave_no_answer() {
    let upstream = Upstream::answering(|_| SWITCH.into());
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    assert_eq!(fixture.get("/").status(), 502);
    let other = ASK.replace("websocket\r\n", "chat\r\n");
    assert_eq!(fixture.request(&other).status(), 502);
}

#[test]
fn an_upgrade_to_http2_never_passes() {
    let upstream = Upstream::saying("plain");
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let answer = fixture.request(
        "GET / HTTP/1.1\r\nhost: shop\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n",
    );
    assert_eq!(answer.text(), "plain");
    let seen = upstream.seen().remove(0);
    for gone in ["upgrade", "connection", "http2-settings"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
}

#[test]
fn either_side_ends_a_tunnel() {
    let (closed, is_closed) = mpsc::channel();
    let is_first = Arc::new(Mutex::new(true));
    let upstream = Upstream::raw(move |mut wire| {
        wire.head().unwrap();
        wire.send(SWITCH);
        if std::mem::take(&mut *is_first.lock().unwrap()) {
            wire.send("bye");
            return;
        }
        closed.send(wire.is_closed()).unwrap();
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    upgraded(&mut wire);
    assert_eq!(wire.exactly(3), b"bye");
    assert!(wire.is_closed());
    let mut wire = fixture.connect();
    upgraded(&mut wire);
    drop(wire);
    assert!(is_closed.recv_timeout(crate::support::PATIENCE).unwrap());
}

#[test]
fn a_quiet_tunnel_is_closed_and_tunnels_are_counted() {
    let upstream = Upstream::raw(|mut wire| {
        wire.head().unwrap();
        wire.send(SWITCH);
        wire.is_closed();
    });
    let served = served(&upstream, "[limits]\nupgrade_idle_ms = 400\n");
    let mut wire = served.connect();
    upgraded(&mut wire);
    eventually("it is counted", || served.metric("banyan_facade_upgrades_total") == "1");
    assert!(wire.is_closed());
    eventually("it is gone", || served.metric("banyan_facade_upgrades_open") == "0");
}

#[test]
fn an_upgrade_goes_to_the_side_that_the_flag_names() {
    let service = Upstream::raw(|mut wire| {
        wire.head().unwrap();
        wire.send(SWITCH);
        wire.send("service");
    });
    let monolith = Upstream::saying("monolith");
    let fixture = Fixture::new(monolith.address, service.address);
    fixture.set("100", None);
    let mut wire = fixture.connect();
    wire.send(ASK.replace("/chat", "/users/7"));
    assert_eq!(wire.head().unwrap().status(), 101);
    assert_eq!(wire.exactly(7), b"service");
    assert!(monolith.seen().is_empty());
}

#[test]
fn a_websocket_passes_over_tls() {
    let upstream = Upstream::raw(|mut wire| {
        wire.head().unwrap();
        wire.send(SWITCH);
        let sent = wire.exactly(4);
        wire.send(sent);
    });
    let served =
        served(&upstream, "[tls]\nlisten = '127.0.0.1:0'\ncertificate = 'shop.pem'\nkey = 'shop.key'");
    let url = format!("https://{}/", served.tls.unwrap());
    assert_eq!(node_client(OVER_TLS, &url), "echo");
}

const OVER_TLS: &str = "
    const request = require('https').request(process.argv[1],
        {rejectUnauthorized: false, headers: {connection: 'upgrade', upgrade: 'websocket'}});
    request.on('upgrade', (_, socket) => {
        socket.on('data', data => { process.stdout.write(data); socket.destroy(); });
        socket.write('echo');
    });
    request.end();";
