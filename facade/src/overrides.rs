//! Overrides: a tester's signed wish to be answered by one side of a context.
//!
//! ```text
//! CONTEXT.SIDE.EXPIRES.MAC    EXPIRES in seconds since 1970, MAC = base64url(HMAC-SHA256(secret, what precedes it))
//! ```
//!
//! Invariant: a wish changes which side answers a read while the monolith owns the context, and nothing else; a wish
//! that is not signed with the secret of the settings changes nothing at all.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::{Side, now_ms};
use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};
use platform::settings::Secret;
use ring::hmac;

use crate::key::cookie;
use crate::plan::ContextPlan;
use crate::settings::OverrideSettings;

/// Characters that a secret has at least: what is shorter can be guessed.
const SHORTEST_SECRET: usize = 32;
/// Signed in front of the wish, so that no other signature under the same secret is one of a wish.
const PURPOSE: &str = "banyan-override\n";

/// What overrides are read and checked with.
#[derive(Debug)]
pub(crate) struct Overrides {
    key: hmac::Key,
    header: HeaderName,
    /// What the names of its cookies begin with.
    cookies: String,
}

/// What a request wishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Nothing,
    /// To be answered by this side.
    Side(Side),
    /// Its signature is wrong, or it is no wish.
    Invalid,
    /// Its time is over.
    Expired,
}

/// What came of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Used,
    /// The side must not answer: it does not own the data that would be written, or its data is behind.
    Refused,
    Invalid,
    Expired,
}

const OUTCOMES: [(Outcome, &str); 4] = [
    (Outcome::Used, "used"),
    (Outcome::Refused, "refused"),
    (Outcome::Invalid, "invalid"),
    (Outcome::Expired, "expired"),
];

impl Overrides {
    /// None without a secret; what is wrong with the settings is told.
    pub(crate) fn new(settings: &OverrideSettings, errors: &mut Vec<String>) -> Option<Self> {
        let OverrideSettings { secret, header, cookie } = settings;
        if secret.expose().is_empty() {
            return None;
        }
        if secret.expose().len() < SHORTEST_SECRET {
            errors.push(format!(
                "setting `overrides.secret` is too short; at least {SHORTEST_SECRET} characters, as `openssl rand -hex 32` prints"
            ));
        }
        if cookie.is_empty() || cookie.contains(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c)) {
            errors.push(format!("setting `overrides.cookie`: `{cookie}` is no cookie name"));
        }
        match HeaderName::from_bytes(header.as_bytes()) {
            Ok(header) => Some(Self { key: signing_key(secret), header, cookies: cookie_name(cookie, "") }),
            Err(_) => {
                errors.push(format!("setting `overrides.header`: `{header}` is no header name"));
                None
            }
        }
    }

    /// What a request wishes of a context: by header (several with commas or in several lines), else by cookie. The
    /// first wish that is valid counts.
    pub(crate) fn wish(&self, context: &ContextPlan, headers: &HeaderMap) -> Wish {
        let in_headers =
            headers.get_all(&self.header).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
        let in_cookie = cookie(headers, context.override_cookie.as_bytes());
        let mut wish = Wish::Nothing;
        for token in in_headers.chain(in_cookie) {
            let Some(found) = self.read(&context.name, token.trim_ascii(), now_ms() / 1000) else { continue };
            if matches!(found, Wish::Side(_)) {
                return found;
            }
            wish = found;
        }
        wish
    }

    /// Whether a header of this name is a wish.
    pub(crate) fn is_header(&self, name: &HeaderName) -> bool {
        *name == self.header
    }

    /// Upstreams have no use for the header and the cookies, and need not be able to repeat what they wish.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        headers.remove(&self.header);
        strip_cookies(headers, self.cookies.as_bytes());
    }

    /// None for a wish of another context.
    fn read(&self, context: &str, token: &[u8], now_s: i64) -> Option<Wish> {
        let token = std::str::from_utf8(token).ok()?;
        let rest = token.strip_prefix(context)?.strip_prefix('.')?;
        Some(self.checked(token, rest, now_s).unwrap_or(Wish::Invalid))
    }

    fn checked(&self, token: &str, rest: &str, now_s: i64) -> Option<Wish> {
        let (said, mac) = token.rsplit_once('.')?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        hmac::verify(&self.key, format!("{PURPOSE}{said}").as_bytes(), &mac).ok()?;
        let (side, rest) = rest.split_once('.')?;
        let expires_s: i64 = rest.split('.').next()?.parse().ok()?;
        let side = side.parse().ok()?;
        Some(if now_s < expires_s { Wish::Side(side) } else { Wish::Expired })
    }
}

/// Removes the cookies whose names begin so; what is left stays to the letter.
fn strip_cookies(headers: &mut HeaderMap, prefix: &[u8]) {
    let is_ours = |pair: &[u8]| pair.trim_ascii_start().starts_with(prefix);
    let pairs = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b';').any(is_ours);
    if !headers.get_all(COOKIE).iter().any(pairs) {
        return;
    }
    let without = |value: &HeaderValue| {
        let rest: Vec<_> =
            value.as_bytes().split(|byte| *byte == b';').filter(|pair| !is_ours(pair)).collect();
        let rest = rest.join(&b';');
        HeaderValue::from_bytes(rest.trim_ascii_start()).ok().filter(|rest| !rest.is_empty())
    };
    let kept: Vec<_> = headers.get_all(COOKIE).iter().filter_map(without).collect();
    headers.remove(COOKIE);
    for value in kept {
        headers.append(COOKIE, value);
    }
}

/// An override as a tester sends it: the header and the cookie, either of which is enough.
#[derive(Debug, serde::Serialize)]
pub struct SignedOverride {
    /// Name of the header.
    pub header: String,
    /// Name of the cookie.
    pub cookie: String,
    /// Value of either.
    pub token: String,
    /// When it ends, in seconds since 1970.
    pub expires_s: i64,
}

/// Signs an override that ends at `expires_s`, in seconds since 1970.
pub fn sign(settings: &OverrideSettings, context: &str, side: Side, expires_s: i64) -> SignedOverride {
    let said = format!("{context}.{side}.{expires_s}");
    let mac = hmac::sign(&signing_key(&settings.secret), format!("{PURPOSE}{said}").as_bytes());
    SignedOverride {
        header: settings.header.clone(),
        cookie: cookie_name(&settings.cookie, context),
        token: format!("{said}.{}", URL_SAFE_NO_PAD.encode(mac)),
        expires_s,
    }
}

fn signing_key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes())
}

/// One cookie per context, so that several can be overridden at once.
pub(crate) fn cookie_name(cookie: &str, context: &str) -> String {
    format!("{cookie}-{context}")
}

/// How often wishes came to what, at one worker, which alone writes it.
#[derive(Debug, Default)]
pub(crate) struct OverrideStats([AtomicU64; OUTCOMES.len()]);

impl OverrideStats {
    pub(crate) fn count(&self, outcome: Outcome) {
        let place = OUTCOMES.iter().position(|(found, _)| *found == outcome);
        if let Some(counter) = place.and_then(|place| self.0.get(place)) {
            counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    /// The sum over all workers, in Prometheus' text format.
    pub(crate) fn render<'s>(out: &mut String, workers: impl Iterator<Item = &'s Self> + Clone) {
        const NAME: &str = "banyan_facade_overrides_total";
        // Writing into a String cannot fail.
        let _ = write!(
            out,
            "# HELP {NAME} Signed wishes for a side, by what came of them.\n# TYPE {NAME} counter\n"
        );
        for (place, (_, word)) in OUTCOMES.iter().enumerate() {
            let sum: u64 =
                workers.clone().filter_map(|stats| stats.0.get(place)).map(|count| count.load(Relaxed)).sum();
            let _ = writeln!(out, "{NAME}{{outcome=\"{word}\"}} {sum}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn settings(secret: &str) -> OverrideSettings {
        OverrideSettings { secret: Secret::new(secret), ..OverrideSettings::default() }
    }

    fn overrides() -> Overrides {
        Overrides::new(&settings(SECRET), &mut Vec::new()).unwrap()
    }

    fn read(token: &str) -> Option<Wish> {
        overrides().read("users", token.as_bytes(), 1_000)
    }

    #[test]
    fn a_signed_wish_counts_until_it_ends() {
        let token = |expires| sign(&settings(SECRET), "users", Side::Service, expires).token;
        assert_eq!(read(&token(1_001)), Some(Wish::Side(Side::Service)));
        assert_eq!(read(&token(1_000)), Some(Wish::Expired));
        assert_eq!(overrides().read("user", token(2_000).as_bytes(), 0), None);
    }

    #[test]
    fn what_is_not_signed_as_it_stands_is_invalid() {
        let token = sign(&settings(SECRET), "users", Side::Service, 2_000).token;
        let foreign = sign(&settings(&SECRET.replace('0', "1")), "users", Side::Service, 2_000).token;
        let (said, mac) = token.rsplit_once('.').unwrap();
        for forged in [
            token.replace("service", "monolith"),
            token.replace("2000", "9000"),
            foreign,
            format!("{said}."),
            format!("users.{mac}"),
            said.to_owned(),
            "users.".to_owned(),
        ] {
            assert_eq!(read(&forged), Some(Wish::Invalid), "{forged}");
        }
    }

    #[test]
    fn cookies_of_overrides_go_and_others_stay_to_the_letter() {
        for (sent, kept) in [
            (vec!["a=b; banyan-override-users=x;c=d"], vec!["a=b;c=d"]),
            (vec!["banyan-override-users=x; a=b"], vec!["a=b"]),
            (vec!["banyan-override-users=x", "a=1; banyan-override-cart=y"], vec!["a=1"]),
            (vec!["banyan-override-users=x"], vec![]),
            (
                vec!["a=banyan-override-users=x; banyan-overrides=1"],
                vec!["a=banyan-override-users=x; banyan-overrides=1"],
            ),
        ] {
            let mut headers = HeaderMap::new();
            for value in &sent {
                headers.append(COOKIE, value.parse().unwrap());
            }
            overrides().strip(&mut headers);
            assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), kept, "{sent:?}");
        }
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused() {
        let mut errors = Vec::new();
        Overrides::new(&settings("short"), &mut errors);
        assert!(errors.first().is_some_and(|error| error.contains("overrides.secret")));
        assert!(Overrides::new(&settings(""), &mut errors).is_none());
    }

    #[test]
    fn what_comes_of_wishes_is_counted_over_all_workers() {
        let workers = [OverrideStats::default(), OverrideStats::default()];
        workers.iter().for_each(|stats| stats.count(Outcome::Used));
        workers[1].count(Outcome::Invalid);
        let mut out = String::new();
        OverrideStats::render(&mut out, workers.iter());
        let counts: Vec<_> = out.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            counts,
            [
                "banyan_facade_overrides_total{outcome=\"used\"} 2",
                "banyan_facade_overrides_total{outcome=\"refused\"} 0",
                "banyan_facade_overrides_total{outcome=\"invalid\"} 1",
                "banyan_facade_overrides_total{outcome=\"expired\"} 0",
            ]
        );
    }
}
