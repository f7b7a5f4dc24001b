//! What `facade.toml` may say of rate limits, tokens, priorities and load.
//!
//! Invariant: everything here is off unless it is set.

use platform::settings::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many requests a client may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimitSettings {
    /// Requests in each period; not 0. Too low and honest clients get 429; too high and it protects nothing.
    pub requests: u32,
    /// The period.
    pub per: Period,
    /// Requests that may come at once after a pause; 0 means as many as `requests`. Too low and a page that loads
    /// several things at once gets 429.
    pub burst: u32,
    /// What one client is told from another by.
    pub key: RateKey,
    /// Clients remembered at most, about 32 bytes each. Too few and clients near their limit are forgotten when many
    /// come, which gives them a new burst.
    pub max_keys: usize,
    /// Whether answers carry `RateLimit` and `RateLimit-Policy`, which tell clients how much is left.
    pub headers: bool,
}

/// A period of a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// A second.
    #[default]
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
}

/// What one client is told from another by. Where it is missing in a request, the client's address counts instead.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateKey {
    /// The client's address behind trusted proxies; of IPv6 its first 64 bits, since a client has all the others.
    #[default]
    ClientAddress,
    /// A header by name, such as an API key. Whoever makes keys up gets a new limit with each, so let something check
    /// them.
    Header(String),
    /// A claim of the checked token; only on routes with `jwt`.
    JwtClaim(String),
}

/// Whose tokens are accepted, and where the keys are that they are signed with: exactly one of `jwks_url`,
/// `jwks_file` and `secret`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JwtSettings {
    /// URL of the JWKS (RFC 7517), `https://` or `http://`; redirects are not followed.
    pub jwks_url: String,
    /// File with a JWKS, read again every `refresh_s`.
    pub jwks_file: String,
    /// The secret of HS256, at least 32 bytes.
    pub secret: Secret,
    /// Algorithms that are accepted: `RS256`, `PS256`, `ES256`, `EdDSA`, and `HS256` with `secret`. Empty means all
    /// that the kind of keys allows. `none` never is.
    pub algorithms: Vec<Algorithm>,
    /// What `iss` must be; empty asks for none, and then any issuer that shares the keys is accepted.
    pub issuer: String,
    /// One of these must stand in `aud`; empty asks for none, and then tokens made for other services are accepted.
    pub audience: Vec<String>,
    /// Seconds by which clocks may differ. Too few refuses fresh tokens; too many accepts dead ones.
    pub leeway_s: u64,
    /// Claims that must be there, beside `exp`, which always must.
    pub required_claims: Vec<String>,
    /// Headers that upstreams get, and the claim each is filled from; a claim inside another is written as a JSON
    /// pointer, `/realm/roles`. Lists are joined by commas. Whatever clients send under these names is removed on every
    /// route.
    pub claim_headers: std::collections::BTreeMap<String, String>,
    /// Seconds between two fetches of the keys; not 0. Too many and a key that was withdrawn is accepted that long.
    pub refresh_s: u64,
    /// Seconds between two fetches at least, also when tokens name unknown keys; not 0. Too few and made-up tokens
    /// become load on the issuer; too many and a new key is refused that long.
    pub min_pause_s: u64,
    /// Seconds for which keys go on when they cannot be fetched. Too few and an outage of the issuer is one of the
    /// facade; too many and withdrawn keys live on.
    pub stale_limit_s: u64,
    /// Milliseconds for a fetch; not 0. Requests with an unknown key wait that long at most.
    pub fetch_timeout_ms: u64,
    /// Seconds for which a checked token is not checked again; 0 checks every time, which costs more than the whole
    /// proxying. A withdrawn key ends it at once.
    pub cache_s: u64,
    /// Checked tokens that each worker remembers at most; memory by about 1 KiB each.
    pub cache_tokens: usize,
    /// Bytes of a token at most; not 0.
    pub max_token_bytes: usize,
}

/// An algorithm of a token's signature (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// RSA with PKCS #1 1.5 and SHA-256.
    RS256,
    /// RSA with PSS and SHA-256.
    PS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
    /// HMAC with SHA-256.
    HS256,
}

/// The token that a route asks for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JwtRuleSettings {
    /// Name of the issuer, as in `jwt`. The facade does not start with another.
    pub provider: String,
    /// Scopes that must all stand in the claim `scope` or `scp`; without them the answer is 403.
    pub scopes: Vec<String>,
    /// Whether preflights of browsers (`OPTIONS` with `Origin` and `Access-Control-Request-Method`) pass without a token, which
    /// browsers never send with them. Off, pages of other origins cannot use the route; on, anybody reaches the upstream with
    /// such a request, and it must answer it without doing anything else.
    pub preflights: bool,
}

/// What goes first when there is too much to do: `low` is refused before `normal`, `critical` never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Never refused for load.
    Critical,
    /// Refused when load is very high.
    #[default]
    Normal,
    /// Refused first.
    Low,
}

/// When requests are refused for load; a limit of 0 is off.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SheddingSettings {
    /// Requests in flight on one worker from which routes of low priority are refused.
    pub low_in_flight: u64,
    /// The same for normal priority; not below that for low.
    pub normal_in_flight: u64,
    /// Milliseconds by which a worker's event loop lags from which routes of low priority are refused. Too low and a
    /// hiccup refuses requests; too high and clients have given up before.
    pub low_lag_ms: u64,
    /// The same for normal priority; not below that for low.
    pub normal_lag_ms: u64,
    /// Seconds after which a refused client is told to come back.
    pub retry_after_s: u16,
}

/// How many requests an upstream gets at once, found by its latency (the gradient of Netflix' concurrency-limits).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdaptiveSettings {
    /// Names of the upstreams it is on for; empty means off.
    pub upstreams: Vec<String>,
    /// Requests at once that each worker always sends; not 0. Too low and a slow phase starves the upstream.
    pub min: u32,
    /// Requests at once that each worker sends at most; not below `min`.
    pub max: u32,
    /// The limit at the start.
    pub initial: u32,
    /// Milliseconds over which latency is averaged before the limit moves; not 0. Too short and it follows noise.
    pub window_ms: u64,
    /// Percent of the usual latency that is still taken as usual; not below 100. Too low and the limit falls for
    /// nothing; too high and queues grow.
    pub tolerance_percent: u32,
}

impl Default for RateLimitSettings {
    fn default() -> Self {
        Self {
            requests: 100,
            per: Period::default(),
            burst: 0,
            key: RateKey::default(),
            max_keys: 100_000,
            headers: true,
        }
    }
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            jwks_url: String::new(),
            jwks_file: String::new(),
            secret: Secret::default(),
            algorithms: Vec::new(),
            issuer: String::new(),
            audience: Vec::new(),
            leeway_s: 30,
            required_claims: Vec::new(),
            claim_headers: std::collections::BTreeMap::new(),
            refresh_s: 300,
            min_pause_s: 10,
            stale_limit_s: 24 * 60 * 60,
            fetch_timeout_ms: 3_000,
            cache_s: 60,
            cache_tokens: 10_000,
            max_token_bytes: 8 * 1024,
        }
    }
}

impl Default for SheddingSettings {
    fn default() -> Self {
        Self { low_in_flight: 0, normal_in_flight: 0, low_lag_ms: 0, normal_lag_ms: 0, retry_after_s: 1 }
    }
}

impl Default for AdaptiveSettings {
    fn default() -> Self {
        Self {
            upstreams: Vec::new(),
            min: 4,
            max: 1_000,
            initial: 20,
            window_ms: 500,
            tolerance_percent: 150,
        }
    }
}
