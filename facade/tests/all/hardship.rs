//! Instances that cannot be reached, reset, close one half, or dawdle; and what may be sent again.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use facade::settings::{Settings, UpstreamSettings};
use socket2::{Domain, SockRef, Socket, Type};

use crate::support::{Fixture, Message, Upstream, Wire, eventually, ok};

fn fixture(instances: &[SocketAddr], change: impl FnOnce(&mut UpstreamSettings)) -> Fixture {
    Fixture::with(Upstream::nobody(), Upstream::nobody(), |settings: &mut Settings| {
        let upstream = settings.upstreams.get_mut("monolith").unwrap();
        upstream.url.clear();
        upstream.instances = instances.iter().map(|address| format!("http://{address}")).collect();
        upstream.breaker.failure_percent = 0;
        change(upstream);
        settings.timeouts.connect_ms = 200;
        settings.timeouts.header_ms = 400;
    })
}

fn post(fixture: &Fixture) -> Message {
    fixture.request("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 2\r\n\r\nhi")
}

fn assert_problem(answer: &Message, status: u16, detail: &str) {
    assert_eq!((answer.status(), answer.header("content-type")), (status, Some("application/problem+json")));
    assert!(answer.text().contains(detail), "{}", answer.text());
}

/// An address that answers no attempt to connect: nobody accepts, and the queue is full.
fn black_hole() -> (Socket, Vec<TcpStream>, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
    let queued = std::iter::from_fn(connect).take(64).collect();
    (socket, queued, address)
}

#[test]
fn a_connection_that_never_completes_is_told_as_504_or_made_elsewhere() {
    let (_socket, _queued, hole) = black_hole();
    let alone = fixture(&[hole], |_| ());
    assert_problem(&alone.get("/"), 504, "cannot be reached in time");
    assert_problem(&post(&alone), 504, "cannot be reached in time");
    let alive = Upstream::saying("alive");
    let both = fixture(&[hole, alive.address], |_| ());
    for _ in 0..4 {
        assert_eq!((both.get("/").status(), post(&both).status()), (200, 200));
    }
    assert_eq!(alive.seen().len(), 8);
}

/// Reads a request, then resets the connection.
fn resetting() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let counter = Arc::clone(&seen);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut wire = Wire::new(stream.try_clone().unwrap());
            if wire.message().is_some() {
                counter.fetch_add(1, SeqCst);
            }
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    });
    (address, seen)
}

#[test]
fn a_reset_costs_no_read_and_a_write_is_sent_once() {
    let (address, seen) = resetting();
    let alone = fixture(&[address], |_| ());
    assert_problem(&post(&alone), 502, "broke off");
    assert_eq!(seen.load(SeqCst), 1);
    let alive = Upstream::saying("alive");
    let both = fixture(&[address, alive.address], |_| ());
    (0..6).for_each(|_| assert_eq!(both.get("/").text(), "alive"));
}

#[test]
fn an_upstream_that_closes_its_half_without_an_answer_is_told_as_502_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut wire = Wire::new(stream.try_clone().unwrap());
            wire.message();
            stream.shutdown(Shutdown::Write).unwrap();
            kept.push(wire);
        }
    });
    let fixture = fixture(&[address], |_| ());
    assert_problem(&post(&fixture), 502, "broke off");
    assert_problem(&fixture.get("/"), 502, "broke off");
}

#[test]
fn an_upstream_that_closes_its_half_after_each_answer_costs_no_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut wire = Wire::new(stream.try_clone().unwrap());
            if wire.message().is_some() {
                wire.send(ok("once"));
                stream.shutdown(Shutdown::Write).unwrap();
            }
            kept.push(wire);
        }
    });
    let fixture = fixture(&[address], |_| ());
    let mut wire = fixture.connect();
    for _ in 0..20 {
        wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
        assert_eq!(wire.message().unwrap().text(), "once");
    }
}

#[test]
fn an_upstream_that_trickles_its_head_is_told_as_504() {
    let upstream = Upstream::raw(|mut wire: Wire| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\nx: ");
        // The pause is what is tested: each piece comes soon, and the whole never.
        while wire.try_send("x") {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let fixture = fixture(&[upstream.address], |_| ());
    assert_problem(&fixture.get("/"), 504, "did not answer in time");
}

#[test]
fn a_read_that_finds_silence_on_a_connection_that_served_before_is_sent_to_another_instance() {
    let seen = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&seen);
    let silent = Upstream::raw(move |mut wire: Wire| {
        while wire.message().is_some() {
            if counter.fetch_add(1, SeqCst) == 0 {
                wire.send(ok("silent"));
            }
        }
    });
    let alive = Upstream::saying("alive");
    let fixture = fixture(&[silent.address, alive.address], |_| ());
    let mut wire = fixture.connect();
    eventually("it was asked again", || {
        wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
        assert_eq!(wire.message().unwrap().status(), 200);
        seen.load(SeqCst) >= 3
    });
}

/// Answers once on each connection, and on the next request closes without a word.
fn once_each() -> (Upstream, Arc<AtomicUsize>) {
    let seen = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&seen);
    let upstream = Upstream::raw(move |mut wire: Wire| {
        for is_first in [true, false] {
            if wire.message().is_none() {
                return;
            }
            counter.fetch_add(1, SeqCst);
            if is_first {
                wire.send(ok("once"));
            }
        }
    });
    (upstream, seen)
}

#[test]
fn a_read_that_was_sent_on_a_stale_connection_is_sent_again_only_while_the_budget_lasts() {
    let (upstream, seen) = once_each();
    for attempts in [1, 3] {
        let fixture = fixture(&[upstream.address], |upstream| {
            upstream.retry.attempts = attempts;
            // With one attempt it is that which forbids, and not the budget.
            upstream.retry.budget_percent = if attempts == 1 { 100 } else { 0 };
            upstream.retry.budget_per_second = if attempts == 1 { 100 } else { 0 };
        });
        seen.store(0, SeqCst);
        let mut wire = fixture.connect();
        let mut sent = 0;
        eventually("one fails", || {
            wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
            sent += 1;
            wire.message().unwrap().status() == 502
        });
        assert_eq!(seen.load(SeqCst), sent, "each was sent once");
    }
}
