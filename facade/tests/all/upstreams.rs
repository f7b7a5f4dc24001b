//! Several instances of one upstream, some of them failing.

use std::net::SocketAddr;
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
    let health = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_well = std::sync::Arc::clone(&health);
    let upstream = Upstream::answering(move |_| match is_well.load(std::sync::atomic::Ordering::SeqCst) {
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
    health.store(true, std::sync::atomic::Ordering::SeqCst);
    eventually("it closes", || fixture.get("/").status() == 200);
}

#[test]
fn a_full_bulkhead_refuses_with_retry_after() {
    let upstream = Upstream::raw(|mut wire: Wire| while wire.line().is_some() {});
    let fixture = fixture(&[upstream.address], |upstream| upstream.bulkhead.most = 1);
    let mut first = fixture.connect();
    first.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    let mut refused = Message::default();
    eventually("the second is refused", || {
        refused = fixture.get("/");
        refused.status() == 503
    });
    assert_eq!(refused.header("retry-after"), Some("1"));
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
