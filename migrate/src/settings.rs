//! `migrate.toml`: where the databases and the manifests are.
//!
//! Invariants: relative paths are relative to the settings file, so the command may be run from anywhere; a URL's password is
//! never printed.

mod place;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use control::ControlSettings;
use platform::settings::{Loaded, within};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::RunOptions;
use crate::engine::backfill::CopierOptions;
use crate::error::MigrateError;

pub use place::{Engine, Place};

/// The settings file looked for in the working directory.
pub const DEFAULT_FILE: &str = "migrate.toml";

/// Everything that `migrate` is told.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The control store that the facades use, too. Dual-write and switches need it; a copy by change capture does not.
    pub control: ControlSettings,
    /// The extractions, by context.
    pub extractions: BTreeMap<String, ExtractionSettings>,
}

/// One extraction.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExtractionSettings {
    /// The manifest, `extraction.toml`.
    pub manifest: PathBuf,
    /// The monolith's database: a SQLite file (`shop.db`, `sqlite:shop.db`) or `postgres://user:password@host:port/name`,
    /// encrypted as `sslmode`, `sslrootcert`, `sslcert` and `sslkey` behind it say.
    pub source: Place,
    /// The service's database, of the same engine as the source.
    pub target: Place,
    /// URL that answers 2xx while the service can take the context's traffic; asked before a switch to it.
    pub target_health: Option<String>,
    /// URL that answers 2xx while the monolith can take the context's traffic; asked before a switch to it.
    pub source_health: Option<String>,
    /// Milliseconds that a health answer may take.
    pub health_timeout_ms: Option<u64>,
    /// How a copy by change capture runs.
    pub run: RunSettings,
}

/// How a copy by change capture runs. The command line and `migrate throttle` win over it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunSettings {
    /// Workers of the backfill, each with a connection to both databases. Too many and the application's own queries slow down.
    #[serde(deserialize_with = "within::<1, 64, _, _>")]
    pub workers: u32,
    /// Most keys per chunk of the backfill, which is one transaction. Chunks begin small and grow while they take less than a
    /// quarter of a second and 8 MiB of rows. Larger is faster and holds memory and locks for longer.
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub chunk_keys: u32,
    /// Most keys per transaction of catch-up, which grow in the same way.
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub piece_keys: u32,
    /// Seconds after which another worker takes over the chunk of one that is silent. Too short and slow chunks are copied twice.
    #[serde(deserialize_with = "within::<5, 86_400, _, _>")]
    pub lease_s: u32,
    /// Log rows above which a warning is given. Too many and the source's disk fills unnoticed.
    #[serde(deserialize_with = "within::<1, 1_000_000_000_000, _, _>")]
    pub warn_log_rows: u64,
    /// Log rows, of a table on PostgreSQL and of the file on SQLite, at which capture ends by itself; the copy must begin anew
    /// then. It is looked at now and then, so there may be some more. `migrate capture install` sets it. Too many and the source's disk fills.
    #[serde(deserialize_with = "within::<1, 1_000_000_000_000, _, _>")]
    pub max_log_rows: u64,
    /// Seconds for which catch-up may stand still before a warning is given.
    #[serde(deserialize_with = "within::<1, 86_400, _, _>")]
    pub warn_lag_s: u64,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            workers: 2,
            chunk_keys: 100_000,
            piece_keys: 50_000,
            lease_s: 60,
            warn_log_rows: 5_000_000,
            max_log_rows: 200_000_000,
            warn_lag_s: 30,
        }
    }
}

impl RunSettings {
    /// As the runner takes them.
    pub fn options(&self) -> RunOptions {
        RunOptions {
            workers: self.workers,
            piece: self.piece_keys,
            copier: CopierOptions { chunk: self.chunk_keys, lease_seconds: self.lease_s },
            warn_log_rows: self.warn_log_rows,
            warn_lag: Duration::from_secs(self.warn_lag_s),
            ..RunOptions::default()
        }
    }
}

impl Settings {
    /// Reads the settings and makes their paths absolute or relative to the working directory.
    pub fn load(file: Option<&Path>) -> Result<Self, MigrateError> {
        let loaded = Self::with_origins(file)?;
        let control = loaded.located("control.path", &loaded.settings.control.path);
        let mut settings = loaded.settings;
        let folder = loaded.file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        let anchor = |path: &mut PathBuf| {
            if !path.as_os_str().is_empty() {
                *path = folder.join(&*path);
            }
        };
        settings.control.path = control;
        for extraction in settings.extractions.values_mut() {
            anchor(&mut extraction.manifest);
            extraction.source.anchor(&folder);
            extraction.target.anchor(&folder);
        }
        Ok(settings)
    }

    /// The settings as they stand, each with its origin.
    pub fn with_origins(file: Option<&Path>) -> Result<Loaded<Self>, MigrateError> {
        platform::settings::load::<Self>(file, DEFAULT_FILE)
            .map_err(|error| MigrateError::Usage(error.to_string()))
    }

    /// The extraction of a context.
    pub fn extraction(&self, context: &str) -> Result<&ExtractionSettings, MigrateError> {
        if let Some(extraction) = self.extractions.get(context) {
            for (name, empty) in [
                ("manifest", extraction.manifest.as_os_str().is_empty()),
                ("source", extraction.source.is_empty()),
                ("target", extraction.target.is_empty()),
            ] {
                if empty {
                    return Err(MigrateError::Usage(format!("set extractions.{context}.{name}")));
                }
            }
            return Ok(extraction);
        }
        let known: Vec<&str> = self.extractions.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(MigrateError::Usage(format!(
            "unknown context `{context}`; known: {known}; set extractions.{context} in {DEFAULT_FILE}"
        )))
    }
}
