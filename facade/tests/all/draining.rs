//! What becomes of connections when the facade is told to end.

use std::sync::{Mutex, mpsc};
use std::time::Instant;

use crate::foreign::{Process, node_client, served};
use crate::support::{PATIENCE, Upstream, eventually, ok};

const GET: &str = "GET / HTTP/1.1\r\nhost: shop\r\n\r\n";

/// An upstream that answers each request when it is told to, and says when one has come.
fn waiting() -> (Upstream, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (arrived, has_arrived) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::answering(move |_| {
        arrived.send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        ok("in time")
    });
    (upstream, has_arrived, go_on)
}

#[test]
fn the_answer_under_way_says_that_it_is_the_last_and_idle_connections_close() {
    let (upstream, has_arrived, go_on) = waiting();
    let mut served = served(&upstream, "");
    let (mut busy, mut idle) = (served.connect(), served.connect());
    go_on.send(()).unwrap();
    idle.send(GET);
    assert_eq!(idle.message().unwrap().header("connection"), None);
    has_arrived.recv().unwrap();
    busy.send(GET);
    has_arrived.recv().unwrap();
    served.process.signal("TERM");
    assert!(idle.is_closed());
    go_on.send(()).unwrap();
    let answer = busy.message().unwrap();
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("in time", Some("close")));
    assert!(busy.is_closed());
    eventually("it has ended", || served.process.has_ended());
}

#[test]
fn a_connection_in_use_a_moment_ago_may_ask_once_more() {
    let upstream = Upstream::saying("hello");
    let served = served(&upstream, "");
    let mut wire = served.connect();
    wire.send(GET);
    assert_eq!(wire.message().unwrap().status(), 200);
    served.process.signal("TERM");
    eventually("it accepts no more", || std::net::TcpStream::connect(served.address).is_err());
    wire.send(GET);
    let answer = wire.message().unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    assert!(wire.is_closed());
}

#[test]
fn an_http2_client_is_told_to_go_and_gets_its_answer() {
    let (upstream, has_arrived, go_on) = waiting();
    let served = served(&upstream, "");
    let url = format!("http://{}", served.address);
    let client = std::thread::spawn(move || node_client(GO_AWAY, &url));
    has_arrived.recv_timeout(PATIENCE).unwrap();
    served.process.signal("TERM");
    eventually("it accepts no more", || std::net::TcpStream::connect(served.address).is_err());
    go_on.send(()).unwrap();
    assert_eq!(client.join().unwrap(), "goaway 0, in time");
}

const GO_AWAY: &str = "
    const client = require('http2').connect(process.argv[1]);
    client.once('goaway', code => process.stdout.write('goaway ' + code + ', '));
    client.request({':path': '/'}).setEncoding('utf8').on('data', data => process.stdout.write(data))
        .on('end', () => client.close());";

#[test]
fn tunnels_go_on_until_the_deadline() {
    let upstream = Upstream::raw(|mut wire| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
        loop {
            let byte = wire.exactly(1);
            wire.send(byte);
        }
    });
    let mut served = served(&upstream, "shutdown_timeout_s = 2");
    let mut wire = served.connect();
    wire.send("GET / HTTP/1.1\r\nhost: shop\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    assert_eq!(wire.head().unwrap().status(), 101);
    let since = Instant::now();
    served.process.signal("TERM");
    eventually("it accepts no more", || std::net::TcpStream::connect(served.address).is_err());
    wire.send("x");
    assert_eq!(wire.exactly(1), b"x");
    assert!(wire.is_closed());
    assert!(since.elapsed().as_millis() >= 1_900);
    eventually("it has ended", || Process::has_ended(&mut served.process));
}

#[test]
fn a_connection_that_rests_wakes_up_and_closes_when_told() {
    let upstream = Upstream::saying("hello");
    let served = served(&upstream, "");
    let mut wire = served.connect();
    for _ in 0..2 {
        wire.send(GET);
        assert_eq!(wire.message().unwrap().text(), "hello");
        // Long enough for it to rest, which nothing shows from outside.
        std::thread::sleep(std::time::Duration::from_millis(2_200));
    }
    wire.send("GET /");
    wire.send(" HTTP/1.1\r\nhost: shop\r\n\r\n");
    assert_eq!(wire.message().unwrap().text(), "hello");
    std::thread::sleep(std::time::Duration::from_millis(2_200));
    served.process.signal("TERM");
    assert!(wire.is_closed());
}
