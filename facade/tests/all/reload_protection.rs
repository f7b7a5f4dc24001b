//! Limits, tokens, load and trusted networks that change while the facade runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use facade::settings::{
    AdaptiveSettings, JwtSettings, Period, RateLimitSettings, RouteSettings, Settings, SheddingSettings,
    UpstreamSettings,
};
use serde_json::json;

use crate::reload::{reload, start};
use crate::support::{Fixture, Message, Upstream, Wire, eventually, ok};
use crate::tokens::{Issuer, Signer, claims, guarded};

fn an_hour(requests: u32) -> Option<RateLimitSettings> {
    Some(RateLimitSettings { requests, per: Period::Hour, ..RateLimitSettings::default() })
}

fn statuses(fixture: &Fixture, path: &str, count: usize) -> Vec<u16> {
    (0..count).map(|_| fixture.get(path).status()).collect()
}

#[test]
fn a_limit_that_stays_keeps_its_counts_and_one_that_changes_begins_anew() {
    let upstream = Upstream::saying("hello");
    let (fixture, mut settings) = start(upstream.address, Upstream::nobody());
    assert_eq!(statuses(&fixture, "/users", 5), [200; 5], "there is no limit yet");
    settings.routes[0].rate_limit = an_hour(2);
    settings.rate_limit = an_hour(6);
    reload(&fixture, &settings).unwrap();
    assert_eq!(statuses(&fixture, "/users", 3), [200, 200, 429]);
    // The route has another place now, and is the same.
    let other = RouteSettings { prefix: "/other".to_owned(), ..RouteSettings::default() };
    settings.routes.insert(0, RouteSettings { rate_limit: an_hour(9), ..other });
    reload(&fixture, &settings).unwrap();
    assert_eq!(statuses(&fixture, "/users", 1), [429], "what was used stays used");
    assert_eq!(statuses(&fixture, "/other", 3), [200, 200, 429], "the limit for all goes on, too");
    settings.rate_limit = an_hour(50);
    reload(&fixture, &settings).unwrap();
    assert_eq!(statuses(&fixture, "/users", 1), [429]);
    settings.routes[1].rate_limit = an_hour(3);
    reload(&fixture, &settings).unwrap();
    assert_eq!(statuses(&fixture, "/users", 4), [200, 200, 200, 429]);
    settings.routes[1].rate_limit = None;
    settings.rate_limit = None;
    reload(&fixture, &settings).unwrap();
    assert_eq!(statuses(&fixture, "/users", 5), [200; 5]);
}

fn ask(fixture: &Fixture, token: &str) -> Message {
    fixture.request(&format!("GET /users/1 HTTP/1.1\r\nhost: shop\r\nauthorization: Bearer {token}\r\n\r\n"))
}

#[test]
fn a_route_is_guarded_from_a_reload_on_and_keys_of_the_same_url_are_kept() {
    let (signer, other) = (Signer::ed25519(), Signer::ed25519());
    let issuer = Issuer::with(&[signer.jwk("e")]);
    let upstream = Upstream::saying("hello");
    let (fixture, mut settings) = start(upstream.address, Upstream::nobody());
    let token = signer.token("EdDSA", "e", &claims(json!({})));
    assert_eq!(fixture.get("/users/1").status(), 200);
    guarded(issuer.url())(&mut settings);
    reload(&fixture, &settings).unwrap();
    assert_eq!(fixture.get("/users/1").status(), 401);
    assert_eq!(ask(&fixture, &token).status(), 200);
    for round in 0..5 {
        settings.timeouts.connect_ms = 900 + round;
        reload(&fixture, &settings).unwrap();
    }
    assert_eq!((ask(&fixture, &token).status(), issuer.fetches()), (200, 1), "nothing of the issuer changed");
    // With the issuer gone its keys count under other settings, too.
    issuer.say(Vec::new());
    let jwt = settings.jwt.get_mut("main").unwrap();
    jwt.claim_headers.insert("x-user".to_owned(), "sub".to_owned());
    reload(&fixture, &settings).unwrap();
    assert_eq!(ask(&fixture, &token).status(), 200);
    let seen = upstream.seen();
    assert!(seen.last().unwrap().header("x-user").is_some(), "new settings of an issuer count");
    let elsewhere = Issuer::with(&[other.jwk("e")]);
    settings
        .jwt
        .insert("main".to_owned(), JwtSettings { jwks_url: elsewhere.url(), ..settings.jwt["main"].clone() });
    reload(&fixture, &settings).unwrap();
    assert_eq!(ask(&fixture, &token).status(), 401, "keys of another URL are none of this one");
    assert_eq!(ask(&fixture, &other.token("EdDSA", "e", &claims(json!({})))).status(), 200);
}

/// An upstream that answers everything at once but `/held`, which waits until it is let go.
fn holding() -> (Upstream, Arc<AtomicBool>) {
    let go = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&go);
    let upstream = Upstream::answering(move |message| {
        while message.first_line.contains("/held") && !told.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        ok("hello")
    });
    (upstream, go)
}

/// Runs `while_held` while one request is under way.
fn with_one_held(fixture: &Fixture, upstream: &Upstream, go: &AtomicBool, while_held: impl FnOnce()) {
    go.store(false, Ordering::SeqCst);
    let mut wire = fixture.connect();
    let before = upstream.seen().len();
    wire.send("GET /held HTTP/1.1\r\nhost: a\r\n\r\n");
    // What is held is not among those seen; one that is answered behind it tells that it has arrived.
    eventually("the request is under way", || {
        let metrics = fixture.get("/");
        metrics.status() != 200 || upstream.seen().len() > before
    });
    while_held();
    go.store(true, Ordering::SeqCst);
    assert_eq!(wire.message().unwrap().status(), 200);
}

#[test]
fn shedding_and_adaptive_limits_are_switched_on_and_off() {
    let (upstream, go) = holding();
    let mut settings = None;
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |given| {
        given.workers = 1;
        settings = Some(given.clone());
    });
    let mut settings: Settings = settings.unwrap();
    let now = |settings: &Settings, expected: u16| {
        reload(&fixture, settings).unwrap();
        with_one_held(&fixture, &upstream, &go, || {
            eventually("the limit holds", || fixture.get("/").status() == expected);
        });
    };
    now(&settings, 200);
    settings.shedding = SheddingSettings { normal_in_flight: 1, ..SheddingSettings::default() };
    now(&settings, 503);
    settings.shedding = SheddingSettings::default();
    now(&settings, 200);
    // An upstream that is new has a place of its own behind those that were there.
    let another = Upstream::saying("another");
    let url = format!("http://{}", another.address);
    settings.upstreams.insert("a".to_owned(), UpstreamSettings { url, ..UpstreamSettings::default() });
    settings.adaptive = AdaptiveSettings {
        upstreams: vec!["monolith".to_owned()],
        min: 1,
        initial: 1,
        max: 1,
        ..AdaptiveSettings::default()
    };
    settings.routes.push(RouteSettings {
        prefix: "/another".to_owned(),
        upstream: "a".to_owned(),
        ..RouteSettings::default()
    });
    now(&settings, 503);
    with_one_held(&fixture, &upstream, &go, || {
        assert_eq!(fixture.get("/another").status(), 200);
    });
    settings.adaptive = AdaptiveSettings::default();
    now(&settings, 200);
}

#[test]
fn a_network_is_trusted_from_a_reload_on_over_open_connections_too() {
    let upstream = Upstream::saying("hello");
    let (fixture, mut settings) = start(upstream.address, Upstream::nobody());
    let mut wire: Wire = fixture.connect();
    let mut told = || {
        wire.send("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.1\r\n\r\n");
        assert_eq!(wire.message().unwrap().status(), 200);
        upstream.seen().last().unwrap().header("x-forwarded-for").unwrap().to_owned()
    };
    assert_eq!(told(), "127.0.0.1");
    settings.forwarded.trusted = vec!["127.0.0.0/8".to_owned()];
    reload(&fixture, &settings).unwrap();
    assert_eq!(told(), "192.0.2.1, 127.0.0.1");
    settings.forwarded.trusted.clear();
    reload(&fixture, &settings).unwrap();
    assert_eq!(told(), "127.0.0.1");
}
