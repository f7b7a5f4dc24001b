//! Rate limits by client, with GCRA (`governor`), and the headers that tell of them: draft-ietf-httpapi-ratelimit-headers,
//! revision 10.
//!
//! Invariant: a limit holds for the whole process, whichever worker a client comes to.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::StateInformationMiddleware;
use governor::{Quota, RateLimiter};
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};

use crate::answer::Refusal;
use crate::protect::keys::BoundedKeys;
use crate::protect::marks::Marks;
use crate::settings::{Period, RateKey, RateLimitSettings};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How long a burst may take to come back; instants further away do not fit the arithmetic.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

type Limiter = RateLimiter<u64, BoundedKeys, MonotonicClock, StateInformationMiddleware>;

/// One limit with the state of all its clients.
#[derive(Debug)]
pub(crate) struct RateLimit {
    pub(crate) settings: RateLimitSettings,
    pub(crate) by: LimitKey,
    name: &'static str,
    limiter: Limiter,
    keys: BoundedKeys,
    /// Keys are kept as hashes that nobody outside can aim at.
    hasher: RandomState,
    burst: u32,
    interval: Duration,
    policy: HeaderValue,
}

/// What clients are told apart by, checked.
#[derive(Debug, Clone)]
pub(crate) enum LimitKey {
    ClientAddress,
    Header(HeaderName),
    Claim(String),
}

impl RateLimit {
    /// The limit that was known, with all that its clients have used, if nothing about it changed; else a new one.
    pub(crate) fn following(
        known: Option<&Arc<Self>>,
        settings: &RateLimitSettings,
        name: &'static str,
        place: &str,
        errors: &mut Vec<String>,
    ) -> Arc<Self> {
        match known.filter(|known| known.settings == *settings) {
            Some(same) => Arc::clone(same),
            None => Arc::new(Self::new(settings, name, place, errors)),
        }
    }

    /// `name` stands in the headers; `place` in errors.
    pub(crate) fn new(
        settings: &RateLimitSettings,
        name: &'static str,
        place: &str,
        errors: &mut Vec<String>,
    ) -> Self {
        if settings.requests == 0 {
            errors.push(format!("setting `{place}.requests` is 0; nothing would ever get through"));
        }
        if settings.max_keys == 0 {
            errors.push(format!("setting `{place}.max_keys` is 0; nobody could be remembered"));
        }
        let period = Duration::from_secs(match settings.per {
            Period::Second => 1,
            Period::Minute => 60,
            Period::Hour => 3_600,
        });
        let requests = NonZeroU32::new(settings.requests).unwrap_or(NonZeroU32::MIN);
        let mut burst = NonZeroU32::new(settings.burst).unwrap_or(requests);
        let interval = (period / requests.get()).max(Duration::from_nanos(1));
        if interval * burst.get() > LONGEST {
            errors.push(format!(
                "setting `{place}.burst` is {burst}, which takes more than a year to come back; take fewer"
            ));
            burst = NonZeroU32::MIN;
        }
        let quota = Quota::with_period(interval).unwrap_or(Quota::per_second(requests)).allow_burst(burst);
        let keys = BoundedKeys::new(settings.max_keys);
        // The quota as a client meets it: so many at once, and all of them back after so long.
        let policy = format!("\"{name}\";q={burst};w={}", seconds_up(interval * burst.get()));
        Self {
            by: limit_key(&settings.key, place, errors),
            settings: settings.clone(),
            name,
            limiter: Limiter::new(quota, keys.clone(), MonotonicClock),
            keys,
            hasher: RandomState::new(),
            burst: burst.get(),
            interval,
            policy: HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("")),
        }
    }

    /// Counts a request of a client; the error is the answer to one that came too soon.
    pub(crate) fn check(&self, client: &[u8], marks: &mut Marks) -> Result<(), Refusal> {
        match self.limiter.check_key(&self.hasher.hash_one(client)) {
            Ok(state) => {
                let left = state.remaining_burst_capacity();
                self.mark(left, self.interval * self.burst.saturating_sub(left), marks);
                Ok(())
            }
            Err(early) => {
                let wait = early.wait_time_from(self.limiter.clock().now());
                self.mark(0, wait, marks);
                let seconds = u16::try_from(seconds_up(wait)).unwrap_or(u16::MAX).max(1);
                let detail = "too many requests in too short a time";
                Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(seconds))
            }
        }
    }

    /// The same for a client that is told apart by its address.
    pub(crate) fn check_address(&self, address: IpAddr, marks: &mut Marks) -> Result<(), Refusal> {
        match address {
            IpAddr::V4(address) => self.check(&address.octets(), marks),
            // A network of 64 bits is the least that one client is given.
            IpAddr::V6(address) => {
                let [network @ .., _, _, _, _, _, _, _, _] = address.octets();
                self.check(&network, marks)
            }
        }
    }

    fn mark(&self, left: u32, until: Duration, marks: &mut Marks) {
        if !self.settings.headers {
            return;
        }
        let mut text = String::with_capacity(32);
        // Writing into a String cannot fail.
        let _ = write!(text, "\"{}\";r={left};t={}", self.name, seconds_up(until));
        if let Ok(value) = HeaderValue::try_from(text) {
            marks.add(RATE_LIMIT_POLICY, self.policy.clone());
            marks.add(RATE_LIMIT, value);
        }
    }

    /// Clients remembered now.
    pub(crate) fn clients(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn sweep(&self) {
        self.keys.sweep();
    }
}

fn limit_key(key: &RateKey, place: &str, errors: &mut Vec<String>) -> LimitKey {
    match key {
        RateKey::ClientAddress => LimitKey::ClientAddress,
        RateKey::JwtClaim(claim) => LimitKey::Claim(claim.clone()),
        RateKey::Header(name) => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => LimitKey::Header(name),
            Err(_) => {
                errors.push(format!("setting `{place}.key`: `{name}` is no header name"));
                LimitKey::ClientAddress
            }
        },
    }
}

/// Whole seconds, rounded up: a client that waits them is not too early.
fn seconds_up(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn limit(requests: u32, per: Period, burst: u32) -> RateLimit {
        let settings = RateLimitSettings { requests, per, burst, ..RateLimitSettings::default() };
        RateLimit::new(&settings, "route", "routes.rate_limit", &mut Vec::new())
    }

    fn told(limit: &RateLimit, client: &[u8]) -> (bool, String) {
        let mut marks = Marks::default();
        let passed = limit.check(client, &mut marks).is_ok();
        let mut headers = HeaderMap::new();
        marks.apply(&mut headers);
        (passed, headers["ratelimit"].to_str().unwrap().to_owned())
    }

    #[test]
    fn a_client_has_its_burst_and_no_more() {
        let limit = limit(60, Period::Hour, 3);
        assert_eq!(limit.policy, "\"route\";q=3;w=180");
        assert_eq!(told(&limit, b"a"), (true, "\"route\";r=2;t=60".to_owned()));
        assert!(told(&limit, b"a").0 && told(&limit, b"a").0);
        assert_eq!(told(&limit, b"a"), (false, "\"route\";r=0;t=60".to_owned()));
        assert!(told(&limit, b"b").0, "another client has its own");
    }

    #[test]
    fn without_a_burst_it_is_a_whole_period() {
        assert_eq!(limit(100, Period::Minute, 0).policy, "\"route\";q=100;w=60");
        assert_eq!(limit(3, Period::Second, 0).policy, "\"route\";q=3;w=1");
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let limit = limit(1, Period::Hour, 1);
        let check =
            |address: &str| limit.check_address(address.parse().unwrap(), &mut Marks::default()).is_ok();
        assert!(check("2001:db8::1"));
        assert!(!check("2001:db8::ffff:1"));
        assert!(check("2001:db8:0:1::1") && check("192.0.2.1") && check("192.0.2.2"));
    }
}
