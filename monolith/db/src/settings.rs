//! Settings of one database.
//!
//! Invariant: the defaults lose no acknowledged write when the machine loses power, and keep every answer within one
//! second while a PostgreSQL server is away.

use std::path::PathBuf;

use platform::settings::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the database is and how it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseSettings {
    /// The SQLite file; created when it is not there. Its folder must exist. Unused when `url` is set. Wrong, and the
    /// program starts with a new, empty database.
    pub path: PathBuf,
    /// The PostgreSQL database, as `postgres://user:password@host:port/name`; empty for the SQLite file. The user must
    /// be allowed to create schemas in it.
    pub url: Secret,
    /// SQLite: connections for reading. Too few and reads wait for each other; each costs a file handle and a cache.
    #[serde(deserialize_with = "platform::settings::within::<1, 256, _, _>")]
    pub readers: u32,
    /// SQLite: how long a call waits for a free connection or for another process's lock, in milliseconds. Too short
    /// and a backfill beside the application makes writes fail; too long and a stuck process shows late.
    #[serde(deserialize_with = "platform::settings::within::<0, 600_000, _, _>")]
    pub busy_timeout_ms: u64,
    /// SQLite: what a commit waits for. `full` writes more slowly, `normal` can lose acknowledged writes with the
    /// power.
    pub synchronous: Synchronous,
    /// SQLite: memory for pages at the connection that writes, in KiB. Too little and scattered writes read from the
    /// disk; too much is memory that a process of its own (an import) takes beside the server.
    #[serde(deserialize_with = "platform::settings::within::<64, 16_777_216, _, _>")]
    pub cache_kib: u32,
    /// PostgreSQL: connections of this process, for reading and writing. Too few and calls wait for each other; those
    /// of all processes together must stay below the server's `max_connections`.
    #[serde(deserialize_with = "platform::settings::within::<1, 1000, _, _>")]
    pub connections: u32,
    /// PostgreSQL: how long a new connection may take, in milliseconds; counted in whole seconds, rounded up. Too long
    /// and connections to a host that swallows packets are noticed late after its return.
    #[serde(deserialize_with = "platform::settings::within::<1000, 60_000, _, _>")]
    pub connect_timeout_ms: u64,
    /// PostgreSQL: how long one statement may take, in milliseconds. Too short and long listings or imports fail; too
    /// long and a bad statement holds its connection.
    #[serde(deserialize_with = "platform::settings::within::<100, 600_000, _, _>")]
    pub statement_timeout_ms: u64,
    /// PostgreSQL: how long one statement may wait for a lock, in milliseconds. Too short and writes to one busy row
    /// fail; too long and they hold connections that others need.
    #[serde(deserialize_with = "platform::settings::within::<10, 600_000, _, _>")]
    pub lock_timeout_ms: u64,
    /// PostgreSQL: how long a call waits for a connection before it fails, and how long without any sign of life from the
    /// server, in milliseconds. Too short and bursts are refused; from about 750 on, answers take longer than a second
    /// while the server is away.
    #[serde(deserialize_with = "platform::settings::within::<10, 60_000, _, _>")]
    pub acquire_timeout_ms: u64,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            path: PathBuf::from("banyan.db"),
            url: Secret::default(),
            readers: 4,
            busy_timeout_ms: 5000,
            synchronous: Synchronous::Full,
            cache_kib: 32_768,
            connections: 16,
            connect_timeout_ms: 2000,
            statement_timeout_ms: 5000,
            lock_timeout_ms: 2000,
            acquire_timeout_ms: 700,
        }
    }
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Synchronous {
    /// Until the disk has it: survives a loss of power.
    Full,
    /// Until the operating system has it: survives a crash of the process, but a loss of power may undo the last
    /// commits. With two sides this can bring back a version that the other side knows already.
    Normal,
}

impl Synchronous {
    pub(crate) fn pragma(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        }
    }
}
