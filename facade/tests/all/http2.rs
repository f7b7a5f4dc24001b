//! HTTP/2 to clients, spoken by curl; the upstream sees HTTP/1.1.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Barrier};

use crate::foreign::{curl, node_client};
use crate::support::{Fixture, Upstream, ok};

#[test]
fn a_client_that_knows_gets_http2_in_cleartext_and_the_upstream_a_whole_http1_request() {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let url = format!("http://{}/a?b=1", fixture.facade.address());
    let out = curl(&[
        "--http2-prior-knowledge",
        "-w",
        " %{http_version} %{http_code}",
        "-H",
        "cookie: a=1",
        "-H",
        "cookie: b=2",
        "-H",
        "te: trailers",
        &url,
    ]);
    assert_eq!(out, "hello 2 200");
    let seen = upstream.seen().remove(0);
    assert_eq!(seen.first_line, "GET /a?b=1 HTTP/1.1");
    assert_eq!(seen.all("host"), [fixture.facade.address().to_string()]);
    assert_eq!(seen.all("cookie"), ["a=1; b=2"]);
    assert_eq!((seen.header("transfer-encoding"), seen.header("content-length")), (None, None));
}

#[test]
fn http2_bodies_pass_both_ways() {
    let upstream = Upstream::answering(|request| {
        let length = request.header("content-length").unwrap_or("none").to_owned();
        ok(&format!("{length} {}", request.body.len()))
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let url = format!("http://{}/", fixture.facade.address());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    fs::write(&file, vec![b'x'; 3_000_000]).unwrap();
    let file = format!("@{}", file.display());
    let known = curl(&["--http2-prior-knowledge", "--data-binary", &file, &url]);
    assert_eq!(known, "3000000 3000000");
    let unknown = curl(&["--http2-prior-knowledge", "-H", "content-length:", "-T", &file[1..], &url]);
    assert_eq!(unknown, "none 3000000");
}

#[test]
fn requests_on_one_http2_connection_are_answered_beside_each_other() {
    // None is answered before all have come.
    let all = Arc::new(Barrier::new(3));
    let upstream = Upstream::answering(move |_| {
        all.wait();
        ok("together")
    });
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| settings.workers = 1);
    assert_eq!(node_client(TOGETHER, &url(&fixture)), "together together together");
}

const TOGETHER: &str = "
    const client = require('http2').connect(process.argv[1]);
    const ask = () => new Promise(resolve => {
        let text = '';
        client.request({':path': '/'}).setEncoding('utf8').on('data', data => text += data).on('end', () => resolve(text));
    });
    Promise.all([ask(), ask(), ask()]).then(texts => { process.stdout.write(texts.join(' ')); client.close(); });";

#[test]
fn a_client_that_opens_and_cancels_without_end_is_cut_off() {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    assert_eq!(node_client(RAPID_RESET, &url(&fixture)), "cut off");
    assert_eq!(fixture.get("/").text(), "hello");
}

const RAPID_RESET: &str = "
    const http2 = require('http2');
    const client = http2.connect(process.argv[1]);
    client.on('error', () => {}).on('close', () => { process.stdout.write('cut off'); process.exit(); });
    const flood = () => {
        for (let count = 0; count < 500 && !client.destroyed; count++) {
            const stream = client.request({':path': '/'});
            stream.on('error', () => {});
            stream.close(http2.constants.NGHTTP2_CANCEL);
        }
        setImmediate(flood);
    };
    client.on('connect', flood);";

fn url(fixture: &Fixture) -> String {
    format!("http://{}", fixture.facade.address())
}

#[test]
fn an_answers_trailers_reach_an_http2_client() {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 8\r\n\r\n".to_vec()
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let url = format!("http://{}/", fixture.facade.address());
    let out = curl(&["--http2-prior-knowledge", "-D", "-", &url]);
    assert!(out.contains("x-sum: 8"), "{out}");
}

#[test]
fn trailers_that_would_pass_for_headers_reach_neither_side() {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, set-cookie, connection\r\n\r\n5\r\nhello\r\n0\r\n\
          x-sum: 8\r\nset-cookie: a=b\r\nconnection: close\r\nx-unannounced: 1\r\ncontent-length: 99\r\n\r\n".to_vec()
    });
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    assert_eq!(node_client(HARMFUL_TRAILERS, &url(&fixture)), r#"hello{"x-sum":"8"}"#);
    assert_eq!(upstream.seen()[0].trailers, [("x-sum".to_owned(), "7".to_owned())]);
}

const HARMFUL_TRAILERS: &str = "
    const client = require('http2').connect(process.argv[1]);
    const trailers = {'x-sum': '7', 'x-forwarded-for': '192.0.2.1', 'cookie': 'a=b', 'x_forwarded_host': 'evil', 'x-unannounced': '1'};
    const announced = 'x-sum, x-forwarded-for, cookie, x_forwarded_host';
    const stream = client.request({':path': '/', ':method': 'POST', 'te': 'trailers', 'trailer': announced}, {waitForTrailers: true});
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    stream.on('trailers', got => process.stdout.write(JSON.stringify(got)));
    stream.setEncoding('utf8').on('data', data => process.stdout.write(data)).on('end', () => client.close());
    stream.end('body');";

#[test]
fn an_http2_refusal_is_a_document_and_the_connection_stays() {
    let fixture = Fixture::new(Upstream::nobody(), Upstream::nobody());
    let answers = node_client(ONE_AFTER_THE_OTHER, &url(&fixture));
    assert_eq!(answers, "502 application/problem+json 502 application/problem+json ");
}

const ONE_AFTER_THE_OTHER: &str = "
    const client = require('http2').connect(process.argv[1]);
    const ask = () => new Promise(resolve => {
        const stream = client.request({':path': '/', ':method': 'POST'});
        stream.on('response', head => process.stdout.write(head[':status'] + ' ' + head['content-type'] + ' '));
        stream.on('end', resolve).resume().end('body');
    });
    ask().then(ask).then(() => client.close());";

#[test]
fn http2_can_be_turned_off() {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.limits.http2.enabled = false;
    });
    let url = format!("http://{}/", fixture.facade.address());
    let status =
        Command::new("curl").args(["-s", "--max-time", "20", "--http2-prior-knowledge", &url]).status();
    assert!(!status.unwrap().success());
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_requests_trailers_reach_the_upstream_from_an_http2_client() {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    assert_eq!(node_client(TRAILERS, &url(&fixture)), "hello");
    assert_eq!(upstream.seen()[0].trailers, [("x-sum".to_owned(), "7".to_owned())]);
}

const TRAILERS: &str = "
    const client = require('http2').connect(process.argv[1]);
    const stream = client.request({':path': '/', ':method': 'POST', 'te': 'trailers', 'trailer': 'x-sum'}, {waitForTrailers: true});
    stream.on('wantTrailers', () => stream.sendTrailers({'x-sum': '7'}));
    stream.setEncoding('utf8').on('data', data => process.stdout.write(data)).on('end', () => client.close());
    stream.end('body');";

#[test]
fn a_body_beyond_the_limit_is_refused_over_http2_too() {
    let upstream = Upstream::saying("hello");
    let fixture =
        Fixture::with(upstream.address, Upstream::nobody(), |settings| settings.limits.body_bytes = 3);
    let url = url(&fixture);
    let out = curl(&["--http2-prior-knowledge", "-d", "body", "-w", " %{http_code}", &url]);
    assert!(out.contains("\"status\":413") && out.ends_with(" 413"), "{out}");
    assert!(upstream.seen().is_empty());
}

#[test]
fn an_http2_client_without_requests_is_let_go() {
    let fixture = Fixture::with(Upstream::nobody(), Upstream::nobody(), |settings| {
        settings.timeouts.client_header_ms = 200;
    });
    assert_eq!(node_client(SILENT, &url(&fixture)), "let go");
}

const SILENT: &str = "
    require('http2').connect(process.argv[1]).on('close', () => process.stdout.write('let go'));";

#[test]
fn an_http2_connection_is_told_to_go_after_its_last_request() {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.limits.requests_per_connection = 1;
    });
    assert_eq!(node_client(LAST, &url(&fixture)), "200 let go");
}

const LAST: &str = "
    const client = require('http2').connect(process.argv[1]);
    client.on('close', () => process.stdout.write('let go'));
    client.request({':path': '/'}).on('response', head => process.stdout.write(head[':status'] + ' ')).resume();";

#[test]
fn a_preface_may_come_in_pieces_and_what_only_begins_like_one_is_http1() {
    let upstream = Upstream::saying("hello");
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let mut wire = fixture.connect();
    for piece in ["P", "R", "I /x HTTP/1.1\r\nhost: shop\r\n\r\n"] {
        wire.send(piece);
    }
    assert_eq!(wire.message().unwrap().text(), "hello");
    assert_eq!(upstream.seen()[0].first_line, "PRI /x HTTP/1.1");
    let mut wire = fixture.connect();
    for piece in ["PRI * HTTP/2.0\r\n", "\r\nSM\r\n\r\n", "\0\0\0\x04\0\0\0\0\0"] {
        wire.send(piece);
    }
    // The head of a SETTINGS frame: length, then the type 4.
    assert_eq!(wire.exactly(4)[3], 4);
}

#[test]
fn an_answer_that_an_http2_client_does_not_read_lets_its_upstream_go() {
    let (gone, is_gone) = std::sync::mpsc::channel();
    let upstream = Upstream::raw(move |mut wire| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
        while wire.try_send(vec![0; 65536]) {}
        let _ = gone.send(());
    });
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.timeouts.body_idle_ms = 300;
    });
    let url = url(&fixture);
    let client = std::thread::spawn(move || node_client(UNREAD, &url));
    is_gone.recv_timeout(crate::support::PATIENCE).unwrap();
    assert_eq!(client.join().unwrap(), "reset");
}

/// Reads nothing for a second; the pause is what makes it stall.
const UNREAD: &str = "
    const client = require('http2').connect(process.argv[1]);
    const stream = client.request({':path': '/'});
    stream.on('error', () => { process.stdout.write('reset'); process.exit(); });
    setTimeout(() => stream.resume(), 1000);";
