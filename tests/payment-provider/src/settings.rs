//! `payment-provider.toml`.

use std::path::PathBuf;

use platform::http::HttpSettings;
use platform::settings::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::behaviour::Behaviour;

/// The file that is read when none is named and it exists.
pub const DEFAULT_FILE: &str = "payment-provider.toml";

/// All settings of the provider.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where it serves.
    pub http: HttpSettings,
    /// Where it keeps what it did.
    pub ledger: LedgerSettings,
    /// Whom it serves, and how.
    pub provider: ProviderSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            http: HttpSettings {
                listen: "127.0.0.1:3090".to_owned(),
                // Requests that hang on purpose would hold up every shutdown.
                shutdown_timeout_s: 1,
                ..HttpSettings::default()
            },
            ledger: LedgerSettings::default(),
            provider: ProviderSettings::default(),
        }
    }
}

/// Where the ledger is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerSettings {
    /// The journal's file; created where it is missing. Delete it to begin anew; another path begins with an empty
    /// ledger.
    pub path: PathBuf,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self { path: PathBuf::from("payment-provider.ledger") }
    }
}

/// Whom the provider serves, and how.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderSettings {
    /// Bearer token demanded under `/v1` and `/control`; empty means none. Different from the shop's, and every
    /// payment is refused.
    pub token: Secret,
    /// Whether `/control` is served. Without it the behaviour is what it was at the start.
    pub control: bool,
    /// How it behaves at first.
    pub behaviour: Behaviour,
}

impl Default for ProviderSettings {
    fn default() -> Self {
        Self { token: Secret::default(), control: true, behaviour: Behaviour::default() }
    }
}
