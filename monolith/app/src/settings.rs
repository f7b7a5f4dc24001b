//! The monolith's settings, one struct per concern.
//!
//! Invariant: with no setting at all the monolith runs alone, and owns everything.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use control::ControlSettings;
use db::DatabaseSettings;
use platform::http::HttpSettings;
use platform::settings::{Loaded, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The settings file that is read when none is named.
pub const DEFAULT_FILE: &str = "monolith.toml";

/// All settings of the monolith.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where it serves.
    pub http: HttpSettings,
    /// Its database.
    pub database: DatabaseSettings,
    /// The control store that it shares with facades and services.
    pub control: ControlSettings,
    /// What stands behind the users port.
    pub users: UsersSettings,
    /// Dual-write with the other side.
    pub replication: ReplicationSettings,
    /// Where payments are taken.
    pub payments: PaymentsSettings,
    /// Work that no request waits for.
    pub background: BackgroundSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            http: HttpSettings::default(),
            database: DatabaseSettings { path: PathBuf::from("monolith.db"), ..DatabaseSettings::default() },
            control: ControlSettings::default(),
            users: UsersSettings::default(),
            replication: ReplicationSettings::default(),
            payments: PaymentsSettings::default(),
            background: BackgroundSettings::default(),
        }
    }
}

/// Where payments are taken.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PaymentsSettings {
    /// The payment provider.
    pub provider: ProviderSettings,
}

/// How to reach the payment provider.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderSettings {
    /// The payment provider's base URL, such as `http://127.0.0.1:3090`; empty where there is none, and then orders
    /// are paid on account only.
    pub url: String,
    /// The token that the payment provider demands. Wrong, and every payment but those on account is refused.
    pub token: Secret,
    /// How long one call may take, in milliseconds. Too short and payments that happened look as if they had not, and
    /// are asked for again; too long and a dead provider holds checkouts.
    #[serde(deserialize_with = "platform::settings::within::<1, 60_000, _, _>")]
    pub timeout_ms: u64,
}

impl Default for ProviderSettings {
    fn default() -> Self {
        Self { url: String::new(), token: Secret::default(), timeout_ms: 2_000 }
    }
}

/// Work that no request waits for: delivering events, running checkouts to their end, sweeping up.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BackgroundSettings {
    /// Whether this process does it. With PostgreSQL several processes may, and never handle anything twice. Where none
    /// does, orders stay `pending`.
    pub enabled: bool,
    /// How often to look for work that another process wrote, in milliseconds; what this process writes is seen at
    /// once. Too long and such work waits; too short and idle processes keep the database busy.
    #[serde(deserialize_with = "platform::settings::within::<10, 60_000, _, _>")]
    pub poll_ms: u64,
    /// How long a process may be silent before others take over what it had begun, in milliseconds. Too short and a busy
    /// process loses its work to another one; too long and the work of one that died waits.
    #[serde(deserialize_with = "platform::settings::within::<2_000, 600_000, _, _>")]
    pub lease_ms: u64,
    /// How often an event is delivered in vain before it becomes a dead letter. Too few and a short outage leaves
    /// dead letters, behind which later events wait for an operator; too many and real faults show late.
    #[serde(deserialize_with = "platform::settings::within::<1, 1000, _, _>")]
    pub event_attempts: u32,
    /// How often a step of a checkout is tried in vain before the checkout is undone. Too few and a short outage
    /// rejects orders; too many and their users wait long for the refusal.
    #[serde(deserialize_with = "platform::settings::within::<1, 1000, _, _>")]
    pub step_attempts: u32,
    /// How long answers are kept for repeated `Idempotency-Key`s, in hours. Too short and a client that repeats a
    /// command late has it carried out twice; too long and the table grows.
    #[serde(deserialize_with = "platform::settings::within::<1, 8760, _, _>")]
    pub idempotency_hours: u32,
}

impl Default for BackgroundSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            poll_ms: 500,
            lease_ms: 10_000,
            event_attempts: 40,
            step_attempts: 14,
            idempotency_hours: 24,
        }
    }
}

/// What stands behind the users port for the other contexts of this process.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UsersSettings {
    /// What the other contexts of this process ask about users. With `embedded`, they go on asking here after the
    /// users have moved out.
    pub wiring: Wiring,
    /// The extracted users service.
    pub remote: RemoteSettings,
}

/// What stands behind a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wiring {
    /// The context in this process.
    #[default]
    Embedded,
    /// The side that the context's flag says.
    Flag,
}

/// How to reach an extracted service.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RemoteSettings {
    /// The extracted service's base URL, such as `http://127.0.0.1:3001`; empty while there is none, and then nothing
    /// is dual-written.
    pub url: String,
    /// The token that the service's private endpoints demand: its `replication.token`. Wrong, and no write reaches
    /// the service.
    pub token: Secret,
    /// How long one call may take, in milliseconds. Too short and a busy service looks dead; too long and requests
    /// wait for a dead one.
    #[serde(deserialize_with = "platform::settings::within::<1, 60_000, _, _>")]
    pub timeout_ms: u64,
}

impl Default for RemoteSettings {
    fn default() -> Self {
        Self { url: String::new(), token: Secret::default(), timeout_ms: 500 }
    }
}

/// Dual-write with the other side.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplicationSettings {
    /// The token that this process's private endpoints demand; while it is empty there are none. Who has it can write
    /// users.
    pub token: Secret,
    /// How long a write waits for the other side before it is answered, in milliseconds. Longer means that fewer
    /// writes are late; shorter that a slow other side costs clients less.
    #[serde(deserialize_with = "platform::settings::within::<0, 60_000, _, _>")]
    pub deadline_ms: u64,
}

impl Default for ReplicationSettings {
    fn default() -> Self {
        Self { token: Secret::default(), deadline_ms: 250 }
    }
}

/// Loads the settings, with paths of the file made relative to its folder, and checks them against each other.
pub fn load(file: Option<&Path>) -> Result<Loaded<Settings>> {
    let mut loaded = platform::settings::load::<Settings>(file, DEFAULT_FILE)?;
    loaded.settings.database.path = loaded.located("database.path", &loaded.settings.database.path);
    loaded.settings.control.path = loaded.located("control.path", &loaded.settings.control.path);
    check(&loaded.settings)?;
    Ok(loaded)
}

/// Every contradiction at once.
fn check(settings: &Settings) -> Result<()> {
    let mut faults = Vec::new();
    let has_remote = !settings.users.remote.url.is_empty();
    if settings.users.wiring == Wiring::Flag && !settings.control.is_set() {
        faults.push("users.wiring = \"flag\" needs control.path or control.url, where the flag is");
    }
    if settings.users.wiring == Wiring::Flag && !has_remote {
        faults.push("users.wiring = \"flag\" needs users.remote.url, where the service is");
    }
    if has_remote && settings.users.remote.token.expose().is_empty() {
        faults.push("users.remote.url needs users.remote.token, the replication.token of the service");
    }
    if has_remote && settings.replication.token.expose().is_empty() {
        faults.push("users.remote.url needs replication.token, which the service shows when it writes back");
    }
    if !faults.is_empty() {
        bail!("the settings contradict each other: {}", faults.join("; "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_settings_the_monolith_runs_alone() {
        assert!(check(&Settings::default()).is_ok());
    }

    #[test]
    fn all_contradictions_are_told_at_once() {
        let mut settings = Settings::default();
        settings.users.wiring = Wiring::Flag;
        let text = check(&settings).unwrap_err().to_string();
        assert!(text.contains("control.path") && text.contains("users.remote.url"), "{text}");
        settings.users.remote.url = "http://127.0.0.1:1".to_owned();
        let text = check(&settings).unwrap_err().to_string();
        assert!(text.contains("users.remote.token") && text.contains("replication.token"), "{text}");
    }
}
