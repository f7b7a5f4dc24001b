//! Several instances of one upstream, some of them failing.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use facade::settings::{Settings, UpstreamSettings};

use crate::support::{Fixture, Message, Upstream, Wire, eventually, ok};

fn fixture(instances: &[SocketAddr], change: impl FnOnce(&mut UpstreamSettings)) -> Fixture {
    Fixture::with(Upstream::nobody(), Upstream::nobody(), |settings: &mut Settings| {
        let upstream = settings.upstreams.get_mut("monolith").unwrap();
        upstream.url.clear();
        upstream.instances = instances.iter().map(|address| format!("http://{address}")).collect();
        change(upstream);
        settings.timeouts.header_ms = 500;
    })
}

fn post(fixture: &Fixture) -> Message {
    fixture.request("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 2\r\n\r\nhi")
}

#[test]
fn instances_take_turns() {
    let (one, other) = (Upstream::saying("one"), Upstream::saying("other"));
    let fixture = fixture(&[one.address, other.address], |_| ());
    (0..20).for_each(|_| assert_eq!(fixture.get("/").status(), 200));
    assert!(one.seen().len() >= 9 && other.seen().len() >= 9, "{} {}", one.seen().len(), other.seen().len());
}

#[test]
fn a_dead_instance_costs_no_request_read_or_write() {
    let alive = Upstream::saying("alive");
    let fixture = fixture(&[alive.address, Upstream::nobody()], |_| ());
    for _ in 0..20 {
        assert_eq!(fixture.get("/").status(), 200);
        assert_eq!(post(&fixture).status(), 200);
    }
    assert_eq!(alive.seen().len(), 40);
}

#[test]
fn a_silent_or_lying_instance_costs_no_read_and_writes_are_sent_once() {
    let silent = Upstream::raw(|mut wire: Wire| while wire.line().is_some() {});
    let lying = Upstream::answering(|_| b"garbage\r\n\r\n".to_vec());
    for bad in [silent.address, lying.address] {
        let alive = Upstream::saying("alive");
        let fixture = fixture(&[alive.address, bad], |upstream| upstream.ejection.failures = 0);
        (0..6).for_each(|_| assert_eq!(fixture.get("/").status(), 200));
    }
    let only_lying = fixture(&[lying.address], |_| ());
    let before = lying.seen().len();
    assert_eq!(post(&only_lying).status(), 502);
    assert_eq!(lying.seen().len(), before + 1);
}

#[test]
fn the_breaker_opens_fails_at_once_and_closes_after_probes() {
    let health = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&health);
    let upstream = Upstream::answering(move |_| match is_well.load(SeqCst) {
        true => ok("well"),
        false => b"garbage\r\n\r\n".to_vec(),
    });
    let fixture = fixture(&[upstream.address], |upstream| {
        upstream.breaker.least_requests = 5;
        upstream.breaker.open_ms = 1_000;
    });
    eventually("it opens", || fixture.get("/").status() == 503);
    let seen = upstream.seen().len();
    let refused = post(&fixture);
    assert_eq!((refused.status(), refused.header("content-type")), (503, Some("application/problem+json")));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(upstream.seen().len(), seen);
    health.store(true, SeqCst);
    eventually("it closes", || fixture.get("/").status() == 200);
}

#[test]
fn a_full_bulkhead_refuses_with_retry_after() {
    let has_come = Arc::new(AtomicBool::new(false));
    let came = Arc::clone(&has_come);
    let upstream = Upstream::raw(move |mut wire: Wire| {
        while wire.line().is_some() {
            came.store(true, SeqCst);
        }
    });
    let fixture = fixture(&[upstream.address], |upstream| upstream.bulkhead.most = 1);
    let mut first = fixture.connect();
    first.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    eventually("the first has its place", || has_come.load(SeqCst));
    let refused = fixture.get("/");
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")));
    assert_eq!(first.message().unwrap().status(), 504);
}

#[test]
fn with_every_instance_aside_requests_are_refused_at_once() {
    let fixture = fixture(&[Upstream::nobody(), Upstream::nobody()], |upstream| {
        upstream.ejection.most_percent = 100;
        upstream.breaker.failure_percent = 0;
    });
    eventually("both are put aside", || fixture.get("/").status() == 503);
    assert!(fixture.get("/").json()["detail"].as_str().unwrap().contains("no healthy instance"));
}

#[test]
fn the_total_timeout_bounds_all_attempts_together() {
    let silent = || Upstream::raw(|mut wire: Wire| while wire.line().is_some() {});
    let (one, other) = (silent(), silent());
    let fixture = Fixture::with(Upstream::nobody(), Upstream::nobody(), |settings: &mut Settings| {
        let upstream = settings.upstreams.get_mut("monolith").unwrap();
        upstream.url.clear();
        upstream.instances = vec![format!("http://{}", one.address), format!("http://{}", other.address)];
        settings.timeouts.total_ms = 300;
    });
    let begun = Instant::now();
    assert_eq!(fixture.get("/").status(), 504);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_instance_that_fails_its_health_check_gets_no_requests_until_it_is_well() {
    let is_well = Arc::new(AtomicBool::new(false));
    let health = Arc::clone(&is_well);
    let one = Upstream::answering(move |message| {
        match message.first_line.contains("/health") && !health.load(SeqCst) {
            true => b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_vec(),
            false => ok("one"),
        }
    });
    let other = Upstream::saying("other");
    let fixture = fixture(&[one.address, other.address], |upstream| {
        upstream.health.path = "/health".to_owned();
        upstream.health.interval_ms = 10;
    });
    let all_say = |words: &[&str]| (0..6).all(|_| words.contains(&fixture.get("/").text().as_str()));
    eventually("only the other is asked", || all_say(&["other"]));
    is_well.store(true, SeqCst);
    eventually("both are asked", || fixture.get("/").text() == "one");
}

struct Python(Child);

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn python() -> (Python, SocketAddr) {
    let arguments = ["-u", "-m", "http.server", "0", "-b", "127.0.0.1", "--protocol", "HTTP/1.1"];
    let mut command = Command::new("python3");
    let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.split(' ').skip_while(|word| *word != "port").nth(1).unwrap().parse().unwrap();
    (Python(child), SocketAddr::from(([127, 0, 0, 1], port)))
}

#[test]
fn killing_one_of_two_instances_under_load_fails_no_read() {
    let ((mut one, first), (_other, second)) = (python(), python());
    let fixture = fixture(&[first, second], |_| ());
    let address = fixture.facade.address();
    let (answered, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut wire = Wire::connect(address);
                while !is_over.load(SeqCst) {
                    // HEAD, as a head comes whole or not at all; a body can be cut, and nobody could mend that.
                    wire.send("HEAD /Cargo.toml HTTP/1.1\r\nhost: shop\r\n\r\n");
                    let status = wire.head().unwrap().status();
                    if status != 200 {
                        is_over.store(true, SeqCst);
                    }
                    assert_eq!(status, 200);
                    answered.fetch_add(1, SeqCst);
                }
            });
        }
        let reach = |count| {
            let is_there = || answered.load(SeqCst) >= count || is_over.load(SeqCst);
            eventually("requests are answered", is_there);
        };
        reach(50);
        one.0.kill().unwrap();
        reach(answered.load(SeqCst) + 100);
        is_over.store(true, SeqCst);
    });
}

#[test]
fn a_canary_read_goes_to_the_monolith_at_once_while_the_breaker_of_the_service_is_open() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::answering(|_| b"no\r\n\r\n".to_vec()));
    let fixture = Fixture::with(monolith.address, service.address, |settings| {
        settings.upstreams.get_mut("svc").unwrap().breaker.least_requests = 2;
        settings.upstreams.get_mut("svc").unwrap().breaker.open_ms = 60_000;
    });
    fixture.set("100", None);
    (0..4).for_each(|_| assert_eq!(fixture.get("/users/7").text(), "monolith"));
    let seen = service.seen().len();
    (0..4).for_each(|_| assert_eq!(fixture.get("/users/7").text(), "monolith"));
    assert_eq!(service.seen().len(), seen);
}
