//! What can be set about serving HTTP.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cors;

/// Where and how a process serves HTTP.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Address and port; port 0 takes a free one, which is printed. An address that all networks reach, such as
    /// `0.0.0.0:3000`, needs a proxy with TLS in front.
    pub listen: String,
    /// Largest request body in bytes; larger ones are refused with 413. Too low and large carts are refused; too high
    /// and few clients can fill the memory.
    #[serde(deserialize_with = "crate::settings::within::<1, 1_073_741_824, _, _>")]
    pub body_limit_bytes: usize,
    /// Threads that handle requests; 0 means one per core. Too few and requests queue while cores idle; more than
    /// cores costs memory only.
    #[serde(deserialize_with = "crate::settings::within::<0, 512, _, _>")]
    pub workers: usize,
    /// Milliseconds within which a client must send its request's headers. Too short and slow clients are cut off;
    /// too long and clients that send nothing hold connections.
    #[serde(deserialize_with = "crate::settings::within::<1, 3_600_000, _, _>")]
    pub header_timeout_ms: u64,
    /// Seconds that a connection stays open without a request; 0 closes it after each answer. Too long and idle
    /// clients hold file descriptors; shorter than a proxy in front keeps its own, and the proxy sends into connections
    /// that are closing.
    #[serde(deserialize_with = "crate::settings::within::<0, 3_600, _, _>")]
    pub keep_alive_s: u64,
    /// Seconds that requests in flight get to end at shutdown. Too short and clients see broken connections at every
    /// restart; too long and a stuck request delays it.
    #[serde(deserialize_with = "crate::settings::within::<0, 3_600, _, _>")]
    pub shutdown_timeout_s: u64,
    /// Answers of at least this many bytes are compressed for clients that accept gzip or br. Too low and small
    /// answers cost more time than their bytes save.
    #[serde(deserialize_with = "crate::settings::within::<1, 1_073_741_824, _, _>")]
    pub compress_min_bytes: u64,
    /// Origins whose pages may call this API from a browser, such as `https://shop.example`; `*` lets all of them.
    /// While it is empty, browsers let only pages of this server's own origin read answers.
    #[serde(deserialize_with = "cors::origins")]
    pub cors_origins: Vec<String>,
    /// Seconds for which browsers must use HTTPS for this host (`Strict-Transport-Security`); 0 sends no such header.
    /// Set it only behind TLS: it cannot be taken back before the time has passed.
    #[serde(deserialize_with = "crate::settings::within::<0, 63_072_000, _, _>")]
    pub hsts_max_age_s: u64,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:3000".to_owned(),
            body_limit_bytes: 1024 * 1024,
            workers: 0,
            header_timeout_ms: 10_000,
            keep_alive_s: 5,
            shutdown_timeout_s: 10,
            compress_min_bytes: 1024,
            cors_origins: Vec::new(),
            hsts_max_age_s: 0,
        }
    }
}
