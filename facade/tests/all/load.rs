//! Too much to do: what is refused first, and what an upstream that is slow gets.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use facade::settings::{AdaptiveSettings, Priority, RouteSettings};

use crate::support::{Fixture, Upstream, Wire, eventually, ok};

/// Answers at once, but for paths that end with `hold`, which wait until they are let go.
struct Holding {
    upstream: Upstream,
    held: Arc<AtomicU64>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Holding {
    fn new() -> Self {
        let (held, gate) = (Arc::new(AtomicU64::new(0)), Arc::new((Mutex::new(false), Condvar::new())));
        let (count, closed) = (Arc::clone(&held), Arc::clone(&gate));
        let upstream = Upstream::answering(move |request| {
            if request.first_line.contains("hold ") {
                count.fetch_add(1, Ordering::SeqCst);
                let (open, changed) = &*closed;
                drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
            }
            ok("hello")
        });
        Self { upstream, held, gate }
    }

    /// Sends requests that are held, and returns when they are.
    fn hold(&self, fixture: &Fixture, path: &str, count: u64) -> Vec<Wire> {
        let before = self.held.load(Ordering::SeqCst);
        let wires = (0..count)
            .map(|_| {
                let mut wire = fixture.connect();
                wire.send(format!("GET {path} HTTP/1.1\r\nhost: shop\r\n\r\n"));
                wire
            })
            .collect();
        eventually("the upstream holds them", || self.held.load(Ordering::SeqCst) == before + count);
        wires
    }

    fn let_go(&self, wires: Vec<Wire>) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
        wires.into_iter().for_each(|mut wire| assert_eq!(wire.message().unwrap().status(), 200));
    }
}

#[test]
fn low_priority_goes_first_and_critical_never() {
    let holding = Holding::new();
    let fixture = Fixture::with(holding.upstream.address, Upstream::nobody(), |settings| {
        settings.workers = 1;
        settings.shedding.low_in_flight = 2;
        settings.shedding.normal_in_flight = 4;
        settings.shedding.retry_after_s = 7;
        settings.routes[0].priority = Priority::Low;
        settings.routes.push(RouteSettings {
            prefix: "/vital".to_owned(),
            context: "users".to_owned(),
            priority: Priority::Critical,
            ..RouteSettings::default()
        });
    });
    let statuses = || ["/users/1", "/other", "/vital"].map(|path| fixture.get(path).status());
    assert_eq!(statuses(), [200, 200, 200]);
    let mut wires = holding.hold(&fixture, "/hold", 2);
    eventually("low priority is refused", || statuses() == [503, 200, 200]);
    wires.extend(holding.hold(&fixture, "/hold", 2));
    assert_eq!(statuses(), [503, 503, 200]);
    let refused = fixture.get("/users/1");
    assert_eq!((refused.header("retry-after"), refused.json()["status"].as_u64()), (Some("7"), Some(503)));
    holding.let_go(wires);
    eventually("everything is served again", || statuses() == [200, 200, 200]);
}

fn fixed(upstream: &str, limit: u32) -> AdaptiveSettings {
    AdaptiveSettings {
        upstreams: vec![upstream.to_owned()],
        min: limit,
        initial: limit,
        max: limit,
        ..AdaptiveSettings::default()
    }
}

#[test]
fn an_upstream_gets_as_many_requests_as_its_limit() {
    let holding = Holding::new();
    let fixture = Fixture::with(holding.upstream.address, Upstream::nobody(), |settings| {
        settings.workers = 1;
        settings.adaptive = fixed("monolith", 2);
    });
    let wires = holding.hold(&fixture, "/hold", 2);
    let refused = fixture.get("/");
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")));
    assert_eq!(holding.held.load(Ordering::SeqCst), 2);
    holding.let_go(wires);
    eventually("there is room again", || fixture.get("/").status() == 200);
}

#[test]
fn a_client_that_goes_away_gives_its_place_back() {
    let holding = Holding::new();
    let fixture = Fixture::with(holding.upstream.address, Upstream::nobody(), |settings| {
        settings.workers = 1;
        settings.adaptive = fixed("monolith", 1);
    });
    let wires = holding.hold(&fixture, "/hold", 1);
    assert_eq!(fixture.get("/").status(), 503);
    drop(wires);
    eventually("there is room again", || fixture.get("/").status() == 200);
}

#[test]
fn a_canary_read_that_its_service_has_no_room_for_is_answered_by_the_monolith() {
    let (holding, monolith) = (Holding::new(), Upstream::saying("monolith"));
    let fixture = Fixture::with(monolith.address, holding.upstream.address, |settings| {
        settings.workers = 1;
        settings.timeouts.canary_header_ms = 10_000;
        settings.adaptive = fixed("svc", 1);
    });
    fixture.set("100", None);
    let wires = holding.hold(&fixture, "/users/hold", 1);
    let answer = fixture.get("/users/2");
    assert_eq!((answer.text().as_str(), answer.header("banyan-fallback")), ("monolith", Some("monolith")));
    holding.let_go(wires);
}

#[test]
fn an_upstream_that_gets_slow_is_sent_less() {
    const CLIENTS: u32 = 16;
    let latency_ms = Arc::new(AtomicU64::new(5));
    let slowness = Arc::clone(&latency_ms);
    let upstream = Upstream::answering(move |_| {
        // A slow upstream is what is tested.
        thread::sleep(Duration::from_millis(slowness.load(Ordering::SeqCst)));
        ok("hello")
    });
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.workers = 1;
        settings.adaptive = AdaptiveSettings {
            upstreams: vec!["monolith".to_owned()],
            min: 2,
            initial: CLIENTS,
            max: CLIENTS,
            window_ms: 50,
            tolerance_percent: 200,
        };
    });
    let (address, is_over) = (fixture.facade.address(), Arc::new(AtomicBool::new(false)));
    let (served, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (is_over, served, refused) =
                (Arc::clone(&is_over), Arc::clone(&served), Arc::clone(&refused));
            thread::spawn(move || {
                let mut wire = Wire::connect(address);
                while !is_over.load(Ordering::SeqCst) {
                    wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
                    let counter = if wire.message().unwrap().status() == 503 { &refused } else { &served };
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    eventually("its usual latency is known", || served.load(Ordering::SeqCst) > 400);
    // Slow is what takes much longer than before, and on a busy machine everything takes long. As many requests as there
    // are clients were always under way, so their number tells what one took.
    let answered = served.load(Ordering::SeqCst) + refused.load(Ordering::SeqCst);
    let usual_ms = began.elapsed().as_millis() * u128::from(CLIENTS) / u128::from(answered);
    latency_ms.store(u64::try_from(usual_ms * 20).unwrap().max(200), Ordering::SeqCst);
    let before = refused.load(Ordering::SeqCst);
    eventually("requests are refused", || refused.load(Ordering::SeqCst) > before);
    is_over.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
}
