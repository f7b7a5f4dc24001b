//! Settings of one database.
//!
//! Invariant: the defaults lose no acknowledged write when the machine loses power.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the database is and how it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseSettings {
    /// The SQLite file; created when it is not there. Its folder must exist.
    pub path: PathBuf,
    /// Connections for reading. Too few and reads wait for each other; each costs a file handle and a cache.
    #[serde(deserialize_with = "platform::settings::within::<1, 256, _, _>")]
    pub readers: u32,
    /// How long a call waits for a free connection or for another process's lock, in milliseconds. Too short and
    /// a backfill beside the application makes writes fail; too long and a stuck process shows late.
    #[serde(deserialize_with = "platform::settings::within::<0, 600_000, _, _>")]
    pub busy_timeout_ms: u64,
    /// What a commit waits for.
    pub synchronous: Synchronous,
    /// Memory for pages at the connection that writes, in KiB. Too little and scattered writes read from the disk;
    /// too much is memory that a process of its own (an import) takes beside the server.
    #[serde(deserialize_with = "platform::settings::within::<64, 16_777_216, _, _>")]
    pub cache_kib: u32,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            path: PathBuf::from("banyan.db"),
            readers: 4,
            busy_timeout_ms: 5000,
            synchronous: Synchronous::Full,
            cache_kib: 32_768,
        }
    }
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
