//! Where the control store is, and the limits that its gates keep.
//!
//! Invariant: the URL holds a password, so no text that leaves here holds more of it than host, port and name.

use std::path::PathBuf;
use std::time::Duration;

use platform::settings::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::postgres;

/// Where the control store is, and the limits that its gates keep.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlSettings {
    /// The SQLite file, shared by all processes of this machine; empty where `url` is set, or where a process runs
    /// without a control store. Processes with different files do not see each other's flags, and writes can go to
    /// both sides.
    pub path: PathBuf,
    /// The PostgreSQL database, as `postgres://user:password@host:port/name`; empty where `path` is set. Use it when
    /// facades run on several machines. The user must be allowed to create the schema `banyan_control` at the first
    /// start. The connection is not encrypted, so `sslmode=require` is refused: keep it within a private network, or
    /// lead it through a tunnel. A pooler between must keep sessions: with one that pools transactions no
    /// notification arrives.
    pub url: Secret,
    /// Milliseconds between two looks at the store (in PostgreSQL at the connection on which it announces changes):
    /// how soon a change of a flag takes effect. Too long and a switch, which waits for every instance, holds writes
    /// longer; too short costs processor time only.
    #[serde(deserialize_with = "platform::settings::within::<1, 60_000, _, _>")]
    pub poll_ms: u64,
    /// PostgreSQL: milliseconds that one call may take, connecting included, before it is given up. Too short and a
    /// busy server looks dead; too long and `facade flag` and the watch on the flags take long to say so.
    #[serde(deserialize_with = "platform::settings::within::<100, 60_000, _, _>")]
    pub answer_timeout_ms: u64,
    /// Milliseconds without a sign of life after which an instance no longer counts. Too short and a busy instance is
    /// left out of a switch; too long and a switch waits for one that died.
    #[serde(deserialize_with = "platform::settings::within::<100, 3_600_000, _, _>")]
    pub lease_ms: i64,
    /// Seconds after which a verification is too old to raise reads or to switch. Too short and it must be repeated
    /// at every step; too long and differences that arose since go unseen.
    #[serde(deserialize_with = "platform::settings::within::<1, 31_536_000, _, _>")]
    pub verification_max_age_s: i64,
    /// Milliseconds that the oldest undelivered write may be old when reads are raised. Too low and a short hiccup
    /// forbids raising them; too high and more clients read stale data.
    #[serde(deserialize_with = "platform::settings::within::<1, 86_400_000, _, _>")]
    pub lag_limit_ms: i64,
    /// Milliseconds that the oldest undelivered write may be old before canary reads go back to the owner. Shorter means
    /// fewer stale reads after the service was away; too short, and every hiccup moves reads.
    #[serde(deserialize_with = "platform::settings::within::<1, 86_400_000, _, _>")]
    pub read_lag_limit_ms: i64,
    /// Milliseconds that a switch may hold writes before it is given up. Too short and switches fail under load; too
    /// long and clients wait for a switch that cannot succeed.
    #[serde(deserialize_with = "platform::settings::within::<1, 60_000, _, _>")]
    pub hold_limit_ms: i64,
}

impl Default for ControlSettings {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            url: Secret::default(),
            poll_ms: 20,
            answer_timeout_ms: 2_000,
            lease_ms: 3_000,
            verification_max_age_s: 3_600,
            lag_limit_ms: 5_000,
            read_lag_limit_ms: 500,
            hold_limit_ms: 1_000,
        }
    }
}

impl ControlSettings {
    /// Whether this process takes part in routing at all.
    pub fn is_set(&self) -> bool {
        self.has_path() || self.has_url()
    }

    /// Whether they name one store that can be used, as far as can be told without opening it; else what is wrong and
    /// what to do.
    pub fn check(&self) -> Result<(), String> {
        match (self.has_path(), self.has_url()) {
            (false, false) => {
                Err("neither control.path nor control.url is set; name the SQLite file of the control \
                                   store, where flags live, or its PostgreSQL database"
                    .to_owned())
            }
            (true, true) => Err(
                "control.path and control.url are both set; leave one away, since flags live in one place"
                    .to_owned(),
            ),
            (true, false) => Ok(()),
            (false, true) => postgres::check_url(self.url.expose()),
        }
    }

    /// The store as messages call it: the file, or the server's `host:port/name`.
    pub fn place(&self) -> String {
        if self.has_url() { postgres::place(self.url.expose()) } else { self.path.display().to_string() }
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.answer_timeout_ms)
    }

    fn has_path(&self) -> bool {
        !self.path.as_os_str().is_empty()
    }

    pub(crate) fn has_url(&self) -> bool {
        !self.url.expose().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str, url: &str) -> ControlSettings {
        ControlSettings { path: path.into(), url: Secret::new(url), ..ControlSettings::default() }
    }

    #[test]
    fn exactly_one_store_must_be_named() {
        assert!(at("", "").check().unwrap_err().contains("neither control.path nor control.url"));
        assert!(at("a.db", "postgres://h/n").check().unwrap_err().contains("both set"));
        assert_eq!(at("a.db", "").check(), Ok(()));
        assert_eq!(at("", "postgres://me:hush@h:5432/n?sslmode=disable").check(), Ok(()));
    }

    #[test]
    fn a_store_is_called_by_a_name_without_its_password() {
        let settings = at("", "postgres://me:hush@h:5432/n");
        assert_eq!(settings.place(), "h:5432/n");
        assert!(!format!("{settings:?}").contains("hush"));
    }
}
