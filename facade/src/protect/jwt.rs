//! Tokens of one issuer: what is checked of them (RFC 7519, RFC 7515, RFC 8725), and the keys at hand.
//!
//! Invariant: a token is only looked into after its signature was checked; what is wrong with it is told, never what
//! would have been right.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use http::header::HeaderName;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::protect::claims::{self, Checked};
use crate::protect::jwks::{self, KeySet, algorithm, bytes};
use crate::protect::refresh::Refresh;
use crate::settings::{Algorithm, JwtSettings};

/// Bytes that a secret of HS256 has at least (RFC 7518 §3.2).
const SHORTEST_SECRET: usize = 32;
/// Of the year 9999 (RFC 3339 §1 knows no later one).
const LAST_SECOND: u64 = 253_402_300_799;
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// An issuer of tokens.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) settings: JwtSettings,
    /// Tells what was remembered of this issuer from what was of another, also after a reload.
    pub(crate) serial: u64,
    pub(crate) refresh: Refresh,
    pub(crate) keys: ArcSwap<KeySet>,
    algorithms: Vec<Algorithm>,
    headers: Vec<(HeaderName, String)>,
}

/// Why a token was not accepted; metrics name it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Missing,
    Malformed,
    Algorithm,
    UnknownKey,
    Signature,
    Expired,
    NotYetValid,
    Issuer,
    Audience,
    Claim,
    /// `exp` or `nbf` is there, and says no time.
    Date,
    Scope,
    NoKeys,
}

impl Fault {
    pub(crate) const WORDS: [&str; 13] = [
        "missing",
        "malformed",
        "algorithm",
        "unknown_key",
        "signature",
        "expired",
        "not_yet_valid",
        "issuer",
        "audience",
        "claim",
        "date",
        "scope",
        "no_keys",
    ];

    /// For the client; without quotes, since it stands in a quoted string.
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::Missing => "a bearer token is needed",
            Self::Malformed => "the token is malformed",
            Self::Algorithm => "the token's algorithm is not accepted",
            Self::UnknownKey => "the token's key is not known",
            Self::Signature => "the token's signature is wrong",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::Issuer => "the token is of another issuer",
            Self::Audience => "the token is for another audience",
            Self::Claim => "the token lacks a claim",
            Self::Date => "the token's exp or nbf is no date in seconds",
            Self::Scope => "the token lacks a scope",
            Self::NoKeys => "tokens cannot be checked at the moment",
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; none are here (RFC 7515 §4.1.11).
    crit: Option<Value>,
}

impl Provider {
    /// The issuer that was known, if nothing about it changed; else a new one, with the keys that were fetched from the
    /// same URL.
    pub(crate) fn following(
        known: &[Arc<Self>],
        name: &str,
        settings: &JwtSettings,
        errors: &mut Vec<String>,
    ) -> Arc<Self> {
        if let Some(same) = known.iter().find(|known| known.name == name && known.settings == *settings) {
            return Arc::clone(same);
        }
        let new = Self::new(name, settings, errors);
        let url = &settings.jwks_url;
        if let Some(known) = known.iter().find(|known| !url.is_empty() && known.settings.jwks_url == *url) {
            // Its own rounds begin anew, and only with them can it tell whether keys are newer.
            new.keys.store(Arc::new(KeySet { round: 0, ..(**known.keys.load()).clone() }));
        }
        new
    }

    pub(crate) fn new(name: &str, settings: &JwtSettings, errors: &mut Vec<String>) -> Arc<Self> {
        let place = format!("jwt.{name}");
        let secret = settings.secret.expose();
        let sources = [&settings.jwks_url, &settings.jwks_file].into_iter().filter(|text| !text.is_empty());
        if sources.count() + usize::from(!secret.is_empty()) != 1 {
            errors
                .push(format!("setting `{place}` needs exactly one of `jwks_url`, `jwks_file` and `secret`"));
        }
        let numbers = [
            ("refresh_s", settings.refresh_s),
            ("min_pause_s", settings.min_pause_s),
            ("fetch_timeout_ms", settings.fetch_timeout_ms),
            ("max_token_bytes", u64::try_from(settings.max_token_bytes).unwrap_or(u64::MAX)),
        ];
        for (field, _) in numbers.iter().filter(|(_, value)| *value == 0) {
            errors.push(format!("setting `{place}.{field}` is 0; nothing would ever succeed"));
        }
        let mut headers = Vec::new();
        for (header, claim) in &settings.claim_headers {
            match HeaderName::from_bytes(header.as_bytes()) {
                Ok(name) => headers.push((name, claim.clone())),
                Err(_) => {
                    errors.push(format!("setting `{place}.claim_headers`: `{header}` is no header name"))
                }
            }
        }
        let keys = first_keys(settings, &place, errors);
        Arc::new(Self {
            name: name.to_owned(),
            serial: SERIAL.fetch_add(1, Relaxed),
            refresh: Refresh::new(settings, &place, errors),
            keys: ArcSwap::from_pointee(keys),
            algorithms: algorithms(settings, &place, errors),
            headers,
            settings: settings.clone(),
        })
    }

    /// Headers that only this issuer's claims may fill.
    pub(crate) fn header_names(&self) -> impl Iterator<Item = HeaderName> {
        self.headers.iter().map(|(name, _)| name.clone())
    }

    /// Checks a token with these keys at this time.
    pub(crate) fn check(&self, token: &[u8], keys: &KeySet, now: u64) -> Result<Checked, Fault> {
        if token.len() > self.settings.max_token_bytes {
            return Err(Fault::Malformed);
        }
        if keys.fetched.is_none() || keys.is_stale {
            return Err(Fault::NoKeys);
        }
        let text = std::str::from_utf8(token).map_err(|_| Fault::Malformed)?;
        let (signed, signature) = text.rsplit_once('.').ok_or(Fault::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Fault::Malformed)?;
        if payload.contains('.') {
            return Err(Fault::Malformed);
        }
        let header: Header = json(header)?;
        if header.crit.is_some() {
            return Err(Fault::Malformed);
        }
        let algorithm = algorithm(&header.alg).filter(|algorithm| self.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or(Fault::Algorithm)?;
        let signature = bytes(signature).ok_or(Fault::Malformed)?;
        match keys.check(header.kid.as_deref(), algorithm, signed.as_bytes(), &signature) {
            jwks::Checked::Valid => {}
            jwks::Checked::Forged => return Err(Fault::Signature),
            jwks::Checked::UnknownKey => return Err(Fault::UnknownKey),
        }
        let claims = json(payload)?;
        let dead_at = self.check_claims(&claims, now)?;
        let of_claim = |(name, claim): &(HeaderName, String)| {
            Some((name.clone(), claims::header(claims::find(&claims, claim)?)?))
        };
        let headers = self.headers.iter().filter_map(of_claim).collect();
        Ok(Checked { claims, headers, dead_at })
    }

    /// When the token is dead, if it lives.
    fn check_claims(&self, claims: &Map<String, Value>, now: u64) -> Result<u64, Fault> {
        let settings = &self.settings;
        let expires = seconds(claims.get("exp").ok_or(Fault::Claim)?).ok_or(Fault::Date)?;
        let dead_at = expires.saturating_add(settings.leeway_s);
        if dead_at <= now {
            return Err(Fault::Expired);
        }
        if let Some(begins) = claims.get("nbf")
            && seconds(begins).ok_or(Fault::Date)? > now.saturating_add(settings.leeway_s)
        {
            return Err(Fault::NotYetValid);
        }
        let issuer = claims.get("iss").and_then(Value::as_str);
        if !settings.issuer.is_empty() && issuer != Some(settings.issuer.as_str()) {
            return Err(Fault::Issuer);
        }
        let is_ours = |value: &Value| settings.audience.iter().any(|audience| value == audience);
        let is_for_us = match claims.get("aud") {
            _ if settings.audience.is_empty() => true,
            Some(Value::Array(list)) => list.iter().any(is_ours),
            Some(value) => is_ours(value),
            None => false,
        };
        if !is_for_us {
            return Err(Fault::Audience);
        }
        let is_there = |name: &String| claims::find(claims, name).is_some_and(|value| !value.is_null());
        if settings.required_claims.iter().all(is_there) { Ok(dead_at) } else { Err(Fault::Claim) }
    }
}

/// The keys that are there before anything is fetched.
fn first_keys(settings: &JwtSettings, place: &str, errors: &mut Vec<String>) -> KeySet {
    let secret = settings.secret.expose();
    if !secret.is_empty() {
        if secret.len() < SHORTEST_SECRET {
            errors.push(format!(
                "setting `{place}.secret` has {} bytes; fewer than {SHORTEST_SECRET} can be guessed",
                secret.len()
            ));
        }
        return KeySet::of_secret(secret);
    }
    if settings.jwks_file.is_empty() {
        return KeySet::default();
    }
    let read = std::fs::read(&settings.jwks_file).map_err(|error| error.to_string());
    match read.and_then(|text| jwks::parse(&text)) {
        Ok(keys) => {
            KeySet { keys: keys.into(), fetched: Some(std::time::Instant::now()), ..KeySet::default() }
        }
        Err(reason) => {
            errors.push(format!("setting `{place}.jwks_file`: {}: {reason}", settings.jwks_file));
            KeySet::default()
        }
    }
}

fn algorithms(settings: &JwtSettings, place: &str, errors: &mut Vec<String>) -> Vec<Algorithm> {
    let of_secret = !settings.secret.expose().is_empty();
    let possible: &[Algorithm] = match of_secret {
        true => &[Algorithm::HS256],
        false => &[Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA],
    };
    for algorithm in settings.algorithms.iter().filter(|algorithm| !possible.contains(algorithm)) {
        errors.push(format!(
            "setting `{place}.algorithms` holds {algorithm:?}; HS256 goes with `secret` and the others with a JWKS"
        ));
    }
    if settings.algorithms.is_empty() { possible.to_vec() } else { settings.algorithms.clone() }
}

/// Names that more than one header would be filled for; the one who reads them could not know from which.
pub(crate) fn check_headers(providers: &[Arc<Provider>], errors: &mut Vec<String>) {
    const OURS: [&str; 6] =
        ["host", "content-length", "transfer-encoding", "connection", "authorization", "x-request-id"];
    let names: BTreeSet<String> =
        providers.iter().flat_map(|one| one.header_names()).map(|name| name.to_string()).collect();
    for name in names.iter().filter(|name| OURS.contains(&name.as_str())) {
        errors.push(format!(
            "setting `jwt`: `claim_headers` holds `{name}`, which has a meaning of its own; take another name"
        ));
    }
}

fn json<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, Fault> {
    let bytes = bytes(part).ok_or(Fault::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Fault::Malformed)
}

/// A NumericDate; it may have a fraction (RFC 7519 §2), which is cut off. What is before 1970 is as past as 1970, and
/// what is beyond the year 9999 was meant as something else: milliseconds, as a rule, or a token that never ends.
fn seconds(value: &Value) -> Option<u64> {
    // A cast of a float saturates.
    let seconds = value.as_u64().or_else(|| value.as_f64().map(|seconds| seconds as u64));
    seconds.filter(|seconds| *seconds <= LAST_SECOND)
}

/// Unix time in seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since: Duration| since.as_secs())
}
