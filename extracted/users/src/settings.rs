//! `users-service.toml`.
//!
//! Invariant: settings with which the service could start but not do its part are refused, all faults at once.

use std::path::PathBuf;
use std::time::Duration;

use control::ControlSettings;
use db::DatabaseSettings;
use platform::http::HttpSettings;
use platform::settings::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The file that is read when none is named and it exists.
pub const DEFAULT_FILE: &str = "users-service.toml";

/// All settings of the service.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where it serves.
    pub http: HttpSettings,
    /// Its own database.
    pub database: DatabaseSettings,
    /// The control store that it shares with facade and monolith.
    pub control: ControlSettings,
    /// The monolith, as the other side of dual-write.
    pub replication: ReplicationSettings,
    /// Commands that clients repeat.
    pub idempotency: IdempotencySettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            http: HttpSettings { listen: "127.0.0.1:3001".to_owned(), ..HttpSettings::default() },
            database: DatabaseSettings {
                path: PathBuf::from("users-service.db"),
                ..DatabaseSettings::default()
            },
            control: ControlSettings::default(),
            replication: ReplicationSettings::default(),
            idempotency: IdempotencySettings::default(),
        }
    }
}

/// What the service remembers of commands that clients may repeat.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdempotencySettings {
    /// How long answers are kept for repeated `Idempotency-Key`s, in hours. Too short and a client that repeats a
    /// command late is told that its e-mail address is taken.
    #[serde(deserialize_with = "platform::settings::within::<1, 8760, _, _>")]
    pub hours: u32,
}

impl Default for IdempotencySettings {
    fn default() -> Self {
        Self { hours: 24 }
    }
}

impl IdempotencySettings {
    /// How long answers are kept.
    pub fn kept(&self) -> Duration {
        Duration::from_secs(3600 * u64::from(self.hours))
    }
}

/// How the service and the monolith tell each other of changes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplicationSettings {
    /// The monolith's base URL: `http://127.0.0.1:3000`. Wrong, and what is written here waits in the log for ever.
    pub url: String,
    /// The token that both sides demand of each other on the private endpoints. Wrong, and no write reaches the other
    /// side; who has it can write users.
    pub token: Secret,
    /// How long a write waits until the monolith has it, too, in milliseconds. Too long and clients feel the
    /// monolith's trouble; too short and its data is behind more often. Nothing is lost either way.
    #[serde(deserialize_with = "platform::settings::within::<0, 60_000, _, _>")]
    pub deadline_ms: u64,
    /// How long one image may travel, in milliseconds. Too short and a busy monolith looks dead; too long and a dead
    /// one holds up what waits behind it.
    #[serde(deserialize_with = "platform::settings::within::<1, 60_000, _, _>")]
    pub timeout_ms: u64,
}

impl Default for ReplicationSettings {
    fn default() -> Self {
        Self { url: String::new(), token: Secret::default(), deadline_ms: 250, timeout_ms: 2_000 }
    }
}

impl ReplicationSettings {
    /// How long a write waits for the other side.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// How long one image may travel.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// Settings that are missing, each with how to set it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}; set them in {DEFAULT_FILE} or in the environment (BANYAN_CONTROL__PATH and so on)", faults.join("; "))]
pub struct Incomplete {
    faults: Vec<&'static str>,
}

impl Settings {
    /// Whether the service can serve with them.
    pub fn check(&self) -> Result<(), Incomplete> {
        let rules = [
            (
                self.control.is_set(),
                "neither control.path nor control.url is set: the control store that the facade uses",
            ),
            (!self.replication.url.is_empty(), "replication.url is not set: the monolith's base URL"),
            (
                !self.replication.token.expose().is_empty(),
                "replication.token is not set: the token that the monolith demands",
            ),
        ];
        let faults: Vec<_> = rules.into_iter().filter(|(kept, _)| !kept).map(|(_, fault)| fault).collect();
        if faults.is_empty() { Ok(()) } else { Err(Incomplete { faults }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_missing_settings_are_named_at_once() {
        let text = Settings::default().check().unwrap_err().to_string();
        for key in ["control.path", "replication.url", "replication.token"] {
            assert!(text.contains(key), "{text}");
        }
    }

    #[test]
    fn settings_with_control_url_and_token_are_complete() {
        let mut settings = Settings::default();
        settings.control.path = PathBuf::from("control.db");
        settings.replication.url = "http://127.0.0.1:3000".to_owned();
        settings.replication.token = Secret::new("s3cret");
        assert_eq!(settings.check(), Ok(()));
    }
}
