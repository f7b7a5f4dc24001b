//! Clients that send too much.

use facade::settings::{Period, RateKey, RateLimitSettings, Settings};

use crate::support::{Fixture, Message, Upstream};

fn three_an_hour(key: RateKey) -> RateLimitSettings {
    RateLimitSettings { requests: 3, per: Period::Hour, key, ..RateLimitSettings::default() }
}

fn limited(change: impl FnOnce(&mut Settings)) -> Fixture {
    Fixture::with(Upstream::saying("hello").address, Upstream::nobody(), change)
}

fn ask(fixture: &Fixture, path: &str, header: &str) -> Message {
    fixture.request(&format!("GET {path} HTTP/1.1\r\nhost: shop\r\n{header}\r\n\r\n"))
}

#[test]
fn the_limit_is_one_for_all_workers() {
    let fixture = limited(|settings| settings.rate_limit = Some(three_an_hour(RateKey::ClientAddress)));
    let statuses: Vec<_> = (0..20).map(|_| fixture.get("/").status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 3);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 17);
}

#[test]
fn a_refusal_says_when_to_come_back_and_a_success_what_is_left() {
    let fixture = limited(|settings| settings.rate_limit = Some(three_an_hour(RateKey::ClientAddress)));
    let first = fixture.get("/");
    assert_eq!(first.header("ratelimit-policy"), Some("\"global\";q=3;w=3600"));
    assert_eq!(first.header("ratelimit"), Some("\"global\";r=2;t=1200"));
    (0..2).for_each(|_| drop(fixture.get("/")));
    let refused = fixture.get("/");
    assert_eq!((refused.status(), refused.header("content-type")), (429, Some("application/problem+json")));
    let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=1200).contains(&seconds), "{seconds}");
    assert!(refused.header("ratelimit").unwrap().starts_with("\"global\";r=0;t="));
    assert_eq!(refused.json()["status"], 429);
}

#[test]
fn a_route_has_a_limit_of_its_own_beside_the_global_one() {
    let fixture = limited(|settings| {
        settings.rate_limit =
            Some(RateLimitSettings { requests: 5, ..three_an_hour(RateKey::ClientAddress) });
        settings.routes[0].rate_limit = Some(three_an_hour(RateKey::Header("x-api-key".to_owned())));
    });
    let statuses: Vec<_> = (0..4).map(|_| ask(&fixture, "/users/1", "x-api-key: a").status()).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(ask(&fixture, "/users/1", "x-api-key: b").all("ratelimit").len(), 2);
    assert_eq!(ask(&fixture, "/", "x-api-key: c").status(), 429, "the global limit counts all of it");
}

#[test]
fn clients_behind_a_trusted_proxy_are_told_apart() {
    let fixture = limited(|settings| {
        settings.forwarded.trusted = vec!["127.0.0.1".to_owned()];
        settings.rate_limit = Some(three_an_hour(RateKey::ClientAddress));
    });
    for client in ["192.0.2.1", "192.0.2.2"] {
        let header = format!("x-forwarded-for: 6.6.6.6, {client}");
        let statuses: Vec<_> = (0..4).map(|_| ask(&fixture, "/", &header).status()).collect();
        assert_eq!(statuses, [200, 200, 200, 429], "{client}");
    }
}

#[test]
fn a_client_that_is_not_trusted_cannot_escape_its_limit() {
    let fixture = limited(|settings| settings.rate_limit = Some(three_an_hour(RateKey::ClientAddress)));
    let ask = |number| ask(&fixture, "/", &format!("x-forwarded-for: 192.0.2.{number}")).status();
    assert_eq!((0..4).map(ask).collect::<Vec<_>>(), [200, 200, 200, 429]);
}
