//! How the names of upstreams become addresses.
//!
//! Invariant: these are the words as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the names in URLs of upstreams become addresses, by the system's own means. Each address is an instance. A name that
/// cannot be resolved keeps the addresses that it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DnsSettings {
    /// Milliseconds between two looks at every name; not 0. Too high and instances that are gone are asked for long; too
    /// low and the name server has much to do.
    pub interval_ms: u64,
    /// Milliseconds that a start or a reload waits for names, and after which a name counts as failed until its answer
    /// comes; not 0. Too low and the first requests are answered with 503.
    pub timeout_ms: u64,
    /// Which addresses count. `any` with a host that has both, but listens on one of them alone, makes an instance that is
    /// put aside again and again.
    pub family: DnsFamily,
}

/// Which addresses of a name count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DnsFamily {
    /// All of them.
    #[default]
    Any,
    /// Those of IPv4.
    Ipv4,
    /// Those of IPv6.
    Ipv6,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self { interval_ms: 5_000, timeout_ms: 2_000, family: DnsFamily::Any }
    }
}
