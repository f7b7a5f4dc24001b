//! WebSocket over HTTP/2 (RFC 8441), spoken by Node; the upstream sees an upgrade.
//!
//! Invariant: nothing but a proven 101 opens a tunnel.

use crate::foreign::{node, node_client};
use crate::support::{Fixture, Upstream, ok};
use crate::upgrades::ECHO;

/// Opens a tunnel and prints its status, then what `on_open` makes of it.
fn script(on_open: &str) -> String {
    format!(
        "const client = require('http2').connect(process.argv[1]);
         const say = text => process.stdout.write(text + ' ');
         client.on('remoteSettings', settings => {{
             if (!settings.enableConnectProtocol) {{ say('not offered'); return client.close(); }}
             const stream = client.request({{
                 ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat?x=1', 'sec-websocket-version': '13'}});
             stream.on('response', head => {{
                 say(head[':status']);
                 say([head['upgrade'], head['connection'], head['sec-websocket-accept']].join('') || 'plain');
                 {on_open}
             }});
             stream.on('close', () => client.close());
         }});"
    )
}

#[test]
fn a_websocket_over_http2_passes_both_ways_beside_other_requests() {
    let (_node, address) = node(ECHO);
    let fixture = Fixture::new(address, Upstream::nobody());
    let echo = "
        let count = 0;
        stream.on('data', data => { count += data.length; if (count == 300000) beside(); });
        stream.write('x'.repeat(300000));
        const beside = () => {
            const other = client.request({':path': '/'});
            other.on('response', head => say(head[':status'])).on('end', () => { stream.end('y'); }).resume();
        };
        stream.on('end', () => say(count));";
    let url = format!("http://{}", fixture.facade.address());
    assert_eq!(node_client(&script(echo), &url), "200 plain 426 300001 ");
}

#[test]
fn an_upstream_sees_an_upgrade_like_any_other() {
    let upstream =
        Upstream::answering(|_| b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\n\r\nno".to_vec());
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let url = format!("http://{}", fixture.facade.address());
    let out = node_client(&script("stream.setEncoding('utf8').on('data', say); stream.end();"), &url);
    assert_eq!(out, "426 plain no ");
    let seen = upstream.seen().remove(0);
    assert_eq!(seen.first_line, "GET /chat?x=1 HTTP/1.1");
    let headers = ["upgrade", "connection", "sec-websocket-version"].map(|name| seen.all(name));
    assert_eq!(headers, [["websocket"], ["upgrade"], ["13"]]);
    assert_eq!(seen.header("sec-websocket-key").map(str::len), Some(24));
}

#[test]
fn what_is_no_websocket_opens_no_tunnel() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    let without_proof = format!("{switch}\r\n").into_bytes();
    let wrong_proof =
        format!("{switch}sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n").into_bytes();
    for answer in [ok("hello"), without_proof, wrong_proof] {
        let upstream = Upstream::answering(move |_| answer.clone());
        let fixture = Fixture::new(upstream.address, Upstream::nobody());
        let url = format!("http://{}", fixture.facade.address());
        let out = node_client(&script("stream.resume().end();"), &url);
        assert_eq!(out, "502 plain ");
    }
}

#[test]
fn a_tunnel_keeps_its_connection_and_ends_with_it() {
    let (gone, is_gone) = std::sync::mpsc::channel();
    let upstream = Upstream::raw(move |mut wire| {
        let head = wire.head().unwrap();
        let key = head.header("sec-websocket-key").unwrap().to_owned();
        wire.send(crate::upgrades::switch(&key));
        assert_eq!(wire.exactly(4), b"late");
        wire.send("last");
        assert!(wire.is_closed());
        let _ = gone.send(());
    });
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.limits.keep_alive_ms = 200;
        settings.timeouts.client_header_ms = 200;
    });
    // Longer than an idle connection is kept.
    let late = "setTimeout(() => stream.write('late'), 1500);
                stream.setEncoding('utf8').on('data', data => { say(data); client.destroy(); });";
    let url = format!("http://{}", fixture.facade.address());
    assert_eq!(node_client(&script(late), &url), "200 plain last ");
    is_gone.recv_timeout(crate::support::PATIENCE).unwrap();
}
