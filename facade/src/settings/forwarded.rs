//! What `facade.toml` may say of the way a request has come, and of what upstreams are told of it.
//!
//! Invariant: nothing a client says of its own origin is believed unless its network stands here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose word on a request's origin is believed, and what is passed on of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ForwardedSettings {
    /// Networks of the proxies in front, as `10.0.0.0/8` or `::1/128`; a single address stands for itself. What peers
    /// there say of the client is believed. Too wide and clients choose their own address; too narrow and every
    /// client has the address of the proxy in front, with one rate limit for all.
    pub trusted: Vec<String>,
    /// Which header of a trusted proxy counts. The others of its kind are made anew from it, because a proxy passes on
    /// untouched what it does not know, and then they are the client's own. Name the one that the proxy writes.
    pub source: ForwardedSource,
    /// Whether upstreams get `Forwarded` (RFC 7239).
    pub forwarded: bool,
    /// Whether upstreams get `X-Forwarded-For`. Off, and upstreams know only the facade's address.
    pub x_forwarded_for: bool,
    /// Whether upstreams get `X-Forwarded-Proto`.
    pub x_forwarded_proto: bool,
    /// Whether upstreams get `X-Forwarded-Host`.
    pub x_forwarded_host: bool,
    /// Whether upstreams get `X-Forwarded-Port`, the port that the client connected to.
    pub x_forwarded_port: bool,
    /// Whether `Via` is appended to requests and to answers (RFC 9110 §7.6.3). Off, and loops are not found.
    pub via: bool,
    /// The name this facade bears in `Via`; letters, digits, `-`, `_` and `.`. Facades in a row may share it.
    pub pseudonym: String,
    /// How often the own name may stand in a request's `Via` before it is refused with 508 as a loop; 0 looks for no
    /// loops. Too low refuses facades in a row; too high lets a loop turn longer.
    pub most_passes: usize,
    /// More headers that are removed from requests of clients that are not trusted, because upstreams or frameworks
    /// believe them. `Forwarded` and everything that begins with `X-Forwarded-` is removed in any case.
    pub removed: Vec<String>,
}

/// A header in which proxies say whose request they pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForwardedSource {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto`, `-Host` and `-Port` beside it.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl Default for ForwardedSettings {
    fn default() -> Self {
        let removed = [
            "x-real-ip",
            "x-client-ip",
            "x-cluster-client-ip",
            "true-client-ip",
            "cf-connecting-ip",
            "x-original-url",
            "x-rewrite-url",
        ];
        Self {
            trusted: Vec::new(),
            source: ForwardedSource::default(),
            forwarded: true,
            x_forwarded_for: true,
            x_forwarded_proto: true,
            x_forwarded_host: true,
            x_forwarded_port: true,
            via: true,
            pseudonym: "banyan".to_owned(),
            most_passes: 5,
            removed: removed.map(str::to_owned).to_vec(),
        }
    }
}
