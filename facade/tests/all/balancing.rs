//! Which instance gets a request, how many may be in flight, and what workers know of each other's failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use facade::settings::{Balance, UpstreamSettings, WhenNoneHealthy};

use crate::hosts::servers;
use crate::support::{Fixture, Upstream, Wire, eventually};

/// With `urls` as the instances of everything.
fn fixture(urls: Vec<String>, workers: usize, change: impl FnOnce(&mut UpstreamSettings)) -> Fixture {
    Fixture::with(Upstream::nobody(), Upstream::nobody(), |settings| {
        settings.workers = workers;
        let upstream = settings.upstreams.get_mut("monolith").unwrap();
        (upstream.url, upstream.instances) = (String::new(), urls);
        upstream.breaker.failure_percent = 0;
        change(upstream);
    })
}

fn urls(upstreams: &[&Upstream]) -> Vec<String> {
    upstreams.iter().map(|upstream| format!("http://{}", upstream.address)).collect()
}

/// How many of these requests the first of two instances gets.
fn share(requests: usize, change: impl FnOnce(&mut UpstreamSettings)) -> usize {
    let (one, other) = (Upstream::saying("one"), Upstream::saying("other"));
    let fixture = fixture(urls(&[&one, &other]), 1, change);
    (0..requests).for_each(|_| assert_eq!(fixture.get("/").status(), 200));
    assert_eq!(one.seen().len() + other.seen().len(), requests);
    one.seen().len()
}

#[test]
fn round_robin_and_random_choose_by_weight() {
    assert_eq!(share(40, |_| ()), 20);
    assert_eq!(share(40, |upstream| upstream.weights = vec![3, 1]), 30);
    // Six standard deviations to either side.
    let even = share(200, |upstream| upstream.balance = Balance::Random);
    assert!((58..=142).contains(&even), "{even}");
    let weighted = share(200, |upstream| {
        upstream.balance = Balance::Random;
        upstream.weights = vec![3, 1];
    });
    assert!((114..=186).contains(&weighted), "{weighted}");
}

#[test]
fn least_requests_spares_the_busy_instance() {
    let ([busy, idle], port) = servers();
    idle.may_end.store(1, SeqCst);
    let instances = [&busy, &idle].map(|server| format!("http://{}:{port}", server.ip)).to_vec();
    let fixture = fixture(instances, 1, |upstream| upstream.balance = Balance::LeastRequests);
    let mut held = Vec::new();
    eventually("one is busy", || {
        let mut wire = fixture.connect();
        wire.send("GET /slow HTTP/1.1\r\nhost: shop\r\n\r\n");
        held.push(wire);
        busy.slow.load(SeqCst) > 0
    });
    eventually("the other is idle", || {
        held.iter_mut().map(|wire| usize::from(wire.has_bytes())).sum::<usize>() == idle.slow.load(SeqCst)
    });
    let to_busy = (0..100).filter(|_| fixture.get("/").text() == busy.ip.to_string()).count();
    // A quarter falls to it, when both of two choices are the same; with turns it would be half.
    assert!((5..40).contains(&to_busy), "{to_busy}");
    busy.may_end.store(1, SeqCst);
}

#[test]
fn with_try_all_instances_are_asked_although_all_are_aside() {
    let nobody = || format!("http://{}", Upstream::nobody());
    let fixture = fixture(vec![nobody(), nobody()], 1, |upstream| {
        upstream.when_none_healthy = WhenNoneHealthy::TryAll;
        upstream.ejection.most_percent = 100;
        upstream.ejection.base_ms = 60_000;
    });
    (0..20).for_each(|_| assert_eq!(fixture.get("/").status(), 502));
}

/// A request that waits, on a connection of its own.
fn ask_slowly(fixture: &Fixture) -> Wire {
    let mut wire = fixture.connect();
    wire.send("GET /slow HTTP/1.1\r\nhost: shop\r\n\r\n");
    wire
}

#[test]
fn a_bulkhead_has_a_queue_and_counts_over_all_workers() {
    let ([server], port) = servers();
    let fixture = fixture(vec![format!("http://{}:{port}", server.ip)], 2, |upstream| {
        (upstream.bulkhead.most, upstream.bulkhead.queue, upstream.bulkhead.wait_ms) = (1, 1, 60_000);
    });
    let mut first = ask_slowly(&fixture);
    eventually("the first has its place", || server.slow.load(SeqCst) == 1);
    let mut others: Vec<_> = (0..9).map(|_| ask_slowly(&fixture)).collect();
    let answered =
        |others: &mut Vec<Wire>| others.iter_mut().map(|wire| usize::from(wire.has_bytes())).sum::<usize>();
    eventually("all but the one that waits are refused", || answered(&mut others) == 8);
    assert_eq!(server.slow.load(SeqCst), 1);
    server.may_end.store(1, SeqCst);
    assert_eq!(first.message().unwrap().status(), 200);
    let mut statuses: Vec<_> = others.iter_mut().map(|wire| wire.message().unwrap().status()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503, 503, 503, 503, 503, 503, 503, 503]);
}

#[test]
fn who_waits_too_long_for_a_place_is_refused() {
    let ([server], port) = servers();
    let fixture = fixture(vec![format!("http://{}:{port}", server.ip)], 1, |upstream| {
        (upstream.bulkhead.most, upstream.bulkhead.queue, upstream.bulkhead.wait_ms) = (1, 5, 50);
    });
    let mut first = ask_slowly(&fixture);
    eventually("the first has its place", || server.slow.load(SeqCst) == 1);
    let refused = fixture.get("/");
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")));
    server.may_end.store(1, SeqCst);
    assert_eq!(first.message().unwrap().status(), 200);
}

#[test]
fn workers_share_ejections_and_the_breaker() {
    let asked = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&asked);
    let lying = Upstream::answering(move |_| {
        counter.fetch_add(1, SeqCst);
        b"garbage\r\n\r\n".to_vec()
    });
    let well = Upstream::saying("well");
    let ejecting = fixture(urls(&[&lying, &well]), 2, |upstream| upstream.ejection.base_ms = 60_000);
    let mut wire = ejecting.connect();
    eventually("it is put aside", || {
        // All over one connection, and so by one worker.
        wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
        assert_eq!(wire.message().unwrap().text(), "well");
        asked.load(SeqCst) == 3
    });
    (0..20).for_each(|_| assert_eq!(ejecting.get("/").text(), "well"));
    assert_eq!(asked.load(SeqCst), 3);

    let failing = fixture(urls(&[&lying]), 2, |upstream| {
        upstream.breaker.failure_percent = 50;
        upstream.breaker.least_requests = 3;
        upstream.breaker.open_ms = 60_000;
    });
    let mut wire = failing.connect();
    let statuses = [502, 502, 502, 503].map(|_| {
        wire.send("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\n\r\n");
        wire.message().unwrap().status()
    });
    assert_eq!(statuses, [502, 502, 502, 503]);
    (0..20).for_each(|_| assert_eq!(failing.get("/").status(), 503));
    assert_eq!(asked.load(SeqCst), 6);
}

#[test]
fn retries_do_not_keep_the_breaker_closed() {
    let nobody = || format!("http://{}", Upstream::nobody());
    let fixture = fixture(vec![nobody(), nobody()], 1, |upstream| {
        upstream.ejection.failures = 0;
        upstream.retry.budget_per_second = 1_000;
        upstream.breaker.failure_percent = 90;
        upstream.breaker.least_requests = 5;
        upstream.breaker.open_ms = 60_000;
    });
    (0..5).for_each(|_| assert_eq!(fixture.get("/").status(), 502));
    assert_eq!(fixture.get("/").status(), 503);
}
