//! Tokens that are good, and tokens that are broken in every way; issuers that are slow, dead, lying, or change keys.

use std::time::{Duration, Instant};

use facade::settings::{JwtSettings, Period, RateKey, RateLimitSettings, Settings};
use serde_json::{Value, json};

use crate::support::{Fixture, Message, PATIENCE, Upstream, eventually, ok};
use crate::tokens::{Issuer, Signer, claims, encode, guarded, guarded_by, hmac, now};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

struct Shop {
    upstream: Upstream,
    fixture: Fixture,
}

impl Shop {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let upstream = Upstream::saying("hello");
        let fixture = Fixture::with(upstream.address, Upstream::nobody(), change);
        Self { upstream, fixture }
    }

    fn ask(&self, token: &str) -> Message {
        self.send("/users/1", &format!("authorization: Bearer {token}"))
    }

    fn send(&self, path: &str, headers: &str) -> Message {
        self.fixture.request(&format!("GET {path} HTTP/1.1\r\nhost: shop\r\n{headers}\r\n\r\n"))
    }
}

/// What is fetched every second, as soon as there is reason to.
fn lively(issuer: &Issuer, change: impl FnOnce(&mut JwtSettings)) -> impl FnOnce(&mut Settings) {
    let mut jwt = JwtSettings {
        jwks_url: issuer.url(),
        refresh_s: 1,
        min_pause_s: 1,
        fetch_timeout_ms: 200,
        ..JwtSettings::default()
    };
    change(&mut jwt);
    guarded_by(jwt)
}

#[test]
fn a_good_token_of_every_algorithm_passes() {
    let (rsa, p256, ed25519) = (Signer::rsa(), Signer::p256(), Signer::ed25519());
    let issuer = Issuer::with(&[rsa.jwk("r"), p256.jwk("p"), ed25519.jwk("e"), json!({"kty": "new"})]);
    let shop = Shop::new(guarded(issuer.url()));
    for (signer, algorithm, id) in
        [(&rsa, "RS256", "r"), (&rsa, "PS256", "r"), (&p256, "ES256", "p"), (&ed25519, "EdDSA", "e")]
    {
        let answer = shop.ask(&signer.token(algorithm, id, &claims(json!({}))));
        assert_eq!(answer.status(), 200, "{algorithm}: {}", answer.text());
    }
    let without_id = p256.with_header("ES256", &json!({"alg": "ES256"}), &claims(json!({"aud": "shop"})));
    assert_eq!(shop.ask(&without_id).status(), 200);
    assert_eq!(issuer.fetches(), 1);
}

#[test]
fn a_secret_signs_with_hs256_and_nothing_else() {
    let signer = Signer::Secret(SECRET);
    let settings = JwtSettings { secret: platform::settings::Secret::new(SECRET), ..JwtSettings::default() };
    let shop = Shop::new(guarded_by(settings));
    assert_eq!(shop.ask(&signer.token("HS256", "x", &claims(json!({})))).status(), 200);
    assert_eq!(shop.ask(&signer.token("HS512", "x", &claims(json!({})))).status(), 401);
    let other = Signer::Secret("another-secret-of-some-32-bytes!");
    assert_eq!(shop.ask(&other.token("HS256", "x", &claims(json!({})))).status(), 401);
}

/// Tokens that are wrong, and a word of what the client is told.
fn broken(rsa: &Signer, p256: &Signer) -> Vec<(&'static str, String, &'static str)> {
    let good = p256.token("ES256", "p", &claims(json!({})));
    let with = |changes: Value| p256.token("ES256", "p", &claims(changes));
    let parts: Vec<&str> = good.split('.').collect();
    let none = |name: &str| encode(json!({"alg": name, "kid": "p"}).to_string());
    let confused = |signer: &Signer, id: &str| {
        let signed = format!("{}.{}", encode(json!({"alg": "HS256", "kid": id}).to_string()), parts[1]);
        format!("{signed}.{}", encode(hmac(&signer.public(), signed.as_bytes())))
    };
    let mut no_expiry = claims(json!({}));
    no_expiry.as_object_mut().unwrap().remove("exp");
    let last = if good.ends_with('A') { 'B' } else { 'A' };
    vec![
        ("none without signature", format!("{}.{}.", none("none"), parts[1]), "algorithm"),
        ("none with signature", format!("{}.{}.{}", none("none"), parts[1], parts[2]), "algorithm"),
        ("None", format!("{}.{}.", none("None"), parts[1]), "algorithm"),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), "signature"),
        ("public RSA key as secret", confused(rsa, "r"), "algorithm"),
        ("public EC key as secret", confused(p256, "p"), "algorithm"),
        ("another key of that id", Signer::p256().token("ES256", "p", &claims(json!({}))), "signature"),
        ("RSA named for an EC key", rsa.token("RS256", "p", &claims(json!({}))), "key"),
        ("an unknown key", p256.token("ES256", "nobody", &claims(json!({}))), "key"),
        (
            "other claims",
            format!("{}.{}.{}", parts[0], encode(claims(json!({"sub": "eve"})).to_string()), parts[2]),
            "signature",
        ),
        ("expired", with(json!({"exp": now() - 100})), "expired"),
        ("no expiry", p256.token("ES256", "p", &no_expiry), "claim"),
        ("expiry in words", with(json!({"exp": "tomorrow"})), "exp or nbf is no date"),
        ("expiry as a text", with(json!({"exp": (now() + 100).to_string()})), "exp or nbf is no date"),
        ("expiry that is nothing", with(json!({"exp": null})), "exp or nbf is no date"),
        ("expiry before all time", with(json!({"exp": -5})), "expired"),
        ("expiry after all time", with(json!({"exp": 1e300})), "exp or nbf is no date"),
        ("expiry in milliseconds", with(json!({"exp": (now() + 100) * 1_000})), "exp or nbf is no date"),
        ("beginning in words", with(json!({"nbf": "today"})), "exp or nbf is no date"),
        ("not yet valid", with(json!({"nbf": now() + 100})), "not valid yet"),
        ("another issuer", with(json!({"iss": "https://evil"})), "issuer"),
        ("issuers in a list", with(json!({"iss": ["https://issuer"]})), "issuer"),
        ("another audience", with(json!({"aud": ["shopping"]})), "audience"),
        ("no audience", with(json!({"aud": null})), "audience"),
        ("truncated", good[..good.len() / 2].to_owned(), "malformed"),
        ("short of one letter", good[..good.len() - 1].to_owned(), ""),
        ("another last letter", format!("{}{last}", &good[..good.len() - 2]), ""),
        ("two parts", format!("{}.{}", parts[0], parts[1]), "malformed"),
        ("four parts", format!("{good}.{}", parts[2]), "malformed"),
        ("padding", format!("{}=.{}.{}", parts[0], parts[1], parts[2]), "malformed"),
        ("no JSON", format!("{}.{}.{}", encode("x"), parts[1], parts[2]), "malformed"),
        (
            "critical extension",
            p256.with_header(
                "ES256",
                &json!({"alg": "ES256", "kid": "p", "crit": ["b64"], "b64": false}),
                &claims(json!({})),
            ),
            "malformed",
        ),
        ("claims that are a list", p256.token("ES256", "p", &json!([])), "malformed"),
        ("huge", with(json!({"x": "x".repeat(9_000)})), "malformed"),
        ("not a token", "....".to_owned(), "malformed"),
    ]
}

#[test]
fn a_token_that_is_broken_in_any_way_is_refused() {
    let (rsa, p256) = (Signer::rsa(), Signer::p256());
    let issuer = Issuer::with(&[rsa.jwk("r"), p256.jwk("p")]);
    let shop = Shop::new(guarded(issuer.url()));
    assert_eq!(shop.ask(&p256.token("ES256", "p", &claims(json!({})))).status(), 200);
    for (what, token, told) in broken(&rsa, &p256) {
        let answer = shop.ask(&token);
        assert_eq!(answer.status(), 401, "{what}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer error=\"invalid_token\""), "{what}: {challenge}");
        assert!(challenge.contains(told), "{what}: {challenge}");
    }
    assert_eq!(shop.upstream.seen().len(), 1, "nothing of it reached the upstream");
}

#[test]
fn who_sends_no_token_is_told_that_one_is_needed() {
    let issuer = Issuer::with(&[Signer::p256().jwk("p")]);
    let shop = Shop::new(guarded(issuer.url()));
    for headers in ["x-a: 1", "authorization: Basic YTpi", "authorization: Bearer"] {
        let answer = shop.send("/users/1", headers);
        assert_eq!((answer.status(), answer.header("www-authenticate")), (401, Some("Bearer")), "{headers}");
    }
    let twice = shop.send("/users/1", "authorization: Bearer a\r\nauthorization: Bearer b");
    assert_eq!(twice.status(), 401);
    assert_eq!(shop.send("/other", "x-a: 1").status(), 200, "other routes ask for none");
}

#[test]
fn a_token_without_the_scope_is_forbidden() {
    let signer = Signer::ed25519();
    let issuer = Issuer::with(&[signer.jwk("e")]);
    let shop = Shop::new(guarded(issuer.url()));
    let answer = shop.ask(&signer.token("EdDSA", "e", &claims(json!({"scope": "write reading"}))));
    assert_eq!(answer.status(), 403);
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(
        challenge.contains("error=\"insufficient_scope\"") && challenge.contains("scope=\"read\""),
        "{challenge}"
    );
}

#[test]
fn upstreams_get_claims_as_headers_that_no_client_can_write() {
    let signer = Signer::ed25519();
    let issuer = Issuer::with(&[signer.jwk("e")]);
    let shop = Shop::new(guarded_by(JwtSettings {
        jwks_url: issuer.url(),
        claim_headers: [
            ("x-user".to_owned(), "sub".to_owned()),
            ("x-role".to_owned(), "/realm/roles".to_owned()),
        ]
        .into(),
        ..JwtSettings::default()
    }));
    let token = signer.token("EdDSA", "e", &claims(json!({"realm": {"roles": ["a", "b"]}})));
    let forged =
        "x-user: eve\r\nx-user: mallory\r\nx_user: eve\r\nx-role: admin\r\nconnection: x-user, x-role";
    shop.send("/users/1", &format!("authorization: Bearer {token}\r\n{forged}"));
    shop.send("/users/1", &format!("authorization: Bearer {token}\r\n{forged}"));
    shop.send("/other", forged);
    let seen = shop.upstream.seen();
    for checked in &seen[..2] {
        assert_eq!((checked.all("x-user"), checked.all("x-role")), (vec!["ann"], vec!["a,b"]));
        assert_eq!(checked.header("x_user"), None);
    }
    for name in ["x-user", "x_user", "x-role"] {
        assert_eq!(seen[2].header(name), None, "{name}");
    }
}

#[test]
fn a_flood_of_unknown_keys_is_no_flood_for_the_issuer() {
    let (known, unknown) = (Signer::ed25519(), Signer::ed25519());
    let issuer = Issuer::with(&[known.jwk("e")]);
    let shop = Shop::new(guarded(issuer.url()));
    assert_eq!(shop.ask(&known.token("EdDSA", "e", &claims(json!({})))).status(), 200);
    for number in 0..100 {
        let token = unknown.token("EdDSA", &format!("made-up-{number}"), &claims(json!({})));
        assert_eq!(shop.ask(&token).status(), 401);
    }
    assert_eq!(issuer.fetches(), 1);
}

#[test]
fn a_new_key_is_found_and_a_withdrawn_one_counts_no_more() {
    let (old, new) = (Signer::ed25519(), Signer::p256());
    let issuer = Issuer::with(&[old.jwk("old")]);
    let shop = Shop::new(lively(&issuer, |jwt| jwt.refresh_s = 3_600));
    let of_old = old.token("EdDSA", "old", &claims(json!({})));
    assert_eq!(shop.ask(&of_old).status(), 200);
    issuer.serve(&[new.jwk("new")]);
    let of_new = new.token("ES256", "new", &claims(json!({})));
    eventually("the new key is fetched because a token names it", || shop.ask(&of_new).status() == 200);
    assert_eq!(shop.ask(&of_old).status(), 401, "it was checked before, but its key is gone");
}

#[test]
fn known_keys_outlast_an_issuer_that_is_dead_or_lies() {
    let signer = Signer::ed25519();
    let token = signer.token("EdDSA", "e", &claims(json!({})));
    let none_for_us = ok("{\"keys\": [{\"kty\": \"oct\", \"k\": \"AAAA\"}]}");
    for lie in [
        Vec::new(),
        ok("<html>"),
        ok("{}"),
        none_for_us,
        b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_vec(),
    ] {
        let issuer = Issuer::with(&[signer.jwk("e")]);
        let shop = Shop::new(lively(&issuer, |jwt| jwt.cache_s = 0));
        assert_eq!(shop.ask(&token).status(), 200);
        issuer.say(lie.clone());
        let before = issuer.fetches();
        eventually("it was asked again, twice", || issuer.fetches() > before + 1);
        assert_eq!(shop.ask(&token).status(), 200, "{}", String::from_utf8_lossy(&lie));
    }
}

#[test]
fn keys_that_are_too_old_are_trusted_no_more() {
    let signer = Signer::ed25519();
    let issuer = Issuer::with(&[signer.jwk("e")]);
    let shop = Shop::new(lively(&issuer, |jwt| jwt.stale_limit_s = 1));
    let token = signer.token("EdDSA", "e", &claims(json!({})));
    assert_eq!(shop.ask(&token).status(), 200);
    issuer.say(Vec::new());
    eventually("the keys are given up", || shop.ask(&token).status() == 503);
    issuer.serve(&[signer.jwk("e")]);
    eventually("the issuer is back", || shop.ask(&token).status() == 200);
}

#[test]
fn without_any_keys_the_answer_is_503_and_not_that_the_token_is_wrong() {
    let signer = Signer::ed25519();
    let issuer = Issuer::answering(Vec::new());
    let shop = Shop::new(lively(&issuer, |_| ()));
    let token = signer.token("EdDSA", "e", &claims(json!({})));
    let answer = shop.ask(&token);
    assert_eq!((answer.status(), answer.header("www-authenticate")), (503, None));
    assert!(answer.header("retry-after").is_some());
    issuer.serve(&[signer.jwk("e")]);
    eventually("the issuer is there", || shop.ask(&token).status() == 200);
}

#[test]
fn an_issuer_that_never_answers_costs_the_fetch_timeout_at_most() {
    let silent = Upstream::raw(|mut wire| while wire.line().is_some() {});
    let url = format!("http://{}/", silent.address);
    let shop =
        Shop::new(guarded_by(JwtSettings { jwks_url: url, fetch_timeout_ms: 100, ..JwtSettings::default() }));
    let begun = Instant::now();
    assert_eq!(shop.ask(&Signer::ed25519().token("EdDSA", "e", &claims(json!({})))).status(), 503);
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
}

#[test]
fn the_first_requests_wait_for_the_first_keys() {
    let signer = Signer::ed25519();
    let jwks = json!({"keys": [signer.jwk("e")]}).to_string();
    let slow = Upstream::answering(move |_| {
        // A slow issuer is what is tested.
        std::thread::sleep(Duration::from_millis(300));
        ok(&jwks)
    });
    let shop = Shop::new(guarded(format!("http://{}/", slow.address)));
    assert_eq!(shop.ask(&signer.token("EdDSA", "e", &claims(json!({})))).status(), 200);
}

#[test]
fn keys_come_from_a_file_too() {
    let signer = Signer::p256();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, json!({"keys": [signer.jwk("p")]}).to_string()).unwrap();
    let jwks_file = path.to_str().unwrap().to_owned();
    let shop = Shop::new(guarded_by(JwtSettings { jwks_file, ..JwtSettings::default() }));
    assert_eq!(shop.ask(&signer.token("ES256", "p", &claims(json!({})))).status(), 200);
}

#[test]
fn a_limit_by_claim_counts_only_checked_tokens() {
    let signer = Signer::ed25519();
    let issuer = Issuer::with(&[signer.jwk("e")]);
    let shop = Shop::new(|settings| {
        guarded(issuer.url())(settings);
        settings.routes[0].rate_limit = Some(RateLimitSettings {
            requests: 2,
            per: Period::Hour,
            key: RateKey::JwtClaim("sub".to_owned()),
            ..RateLimitSettings::default()
        });
    });
    let of = |who: &str| signer.token("EdDSA", "e", &claims(json!({"sub": who})));
    let forged = Signer::ed25519().token("EdDSA", "e", &claims(json!({"sub": "ann"})));
    (0..5).for_each(|_| assert_eq!(shop.ask(&forged).status(), 401));
    let statuses: Vec<_> = (0..3).map(|_| shop.ask(&of("ann")).status()).collect();
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(shop.ask(&of("bob")).status(), 200);
}

#[test]
fn a_preflight_passes_without_a_token_only_where_that_is_set_and_counts_against_limits() {
    let signer = Signer::ed25519();
    let issuer = Issuer::with(&[signer.jwk("e")]);
    for (preflights, expected) in [(false, 401), (true, 200)] {
        let guard = guarded(issuer.url());
        let shop = Shop::new(|settings| {
            guard(settings);
            settings.routes[0].jwt.as_mut().unwrap().preflights = preflights;
            let key = RateKey::JwtClaim("sub".to_owned());
            settings.routes[0].rate_limit = Some(RateLimitSettings {
                requests: 2,
                per: Period::Hour,
                key,
                ..RateLimitSettings::default()
            });
        });
        let send = |method: &str, headers: &str| {
            let request = format!("{method} /users/1 HTTP/1.1\r\nhost: shop\r\n{headers}\r\n");
            shop.fixture.request(&request).status()
        };
        let preflight = "origin: https://a\r\naccess-control-request-method: PUT\r\n";
        assert_eq!(send("OPTIONS", preflight), expected);
        assert_eq!(send("OPTIONS", "origin: https://a\r\n"), 401);
        assert_eq!(send("OPTIONS", "access-control-request-method: PUT\r\n"), 401);
        assert_eq!(send("GET", preflight), 401);
        if preflights {
            assert_eq!([send("OPTIONS", preflight), send("OPTIONS", preflight)], [200, 429]);
        }
    }
}
