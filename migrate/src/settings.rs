//! `migrate.toml`: where the databases and the manifests are.
//!
//! Invariant: relative paths are relative to the settings file, so the command may be run from anywhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use control::ControlSettings;
use serde::{Deserialize, Serialize};

use crate::error::MigrateError;

/// The settings file looked for in the working directory.
pub const DEFAULT_FILE: &str = "migrate.toml";

/// Everything that `migrate` is told.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The control store that the facades use, too.
    pub control: ControlSettings,
    /// The extractions, by context.
    pub extractions: BTreeMap<String, ExtractionSettings>,
}

/// One extraction.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExtractionSettings {
    /// The manifest, `extraction.toml`.
    pub manifest: PathBuf,
    /// The monolith's database file.
    pub source: PathBuf,
    /// The service's database file.
    pub target: PathBuf,
    /// URL that answers 2xx while the service can take the context's traffic; asked before a switch to it.
    pub target_health: Option<String>,
    /// URL that answers 2xx while the monolith can take the context's traffic; asked before a switch to it.
    pub source_health: Option<String>,
    /// Milliseconds that a health answer may take.
    pub health_timeout_ms: Option<u64>,
}

impl Settings {
    /// Reads the settings and makes their paths absolute or relative to the working directory.
    pub fn load(file: Option<&Path>) -> Result<Self, MigrateError> {
        let loaded = platform::settings::load::<Self>(file, DEFAULT_FILE)
            .map_err(|error| MigrateError::Usage(error.to_string()))?;
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
            anchor(&mut extraction.source);
            anchor(&mut extraction.target);
        }
        Ok(settings)
    }

    /// The extraction of a context.
    pub fn extraction(&self, context: &str) -> Result<&ExtractionSettings, MigrateError> {
        if let Some(extraction) = self.extractions.get(context) {
            for (name, path) in [
                ("manifest", &extraction.manifest),
                ("source", &extraction.source),
                ("target", &extraction.target),
            ] {
                if path.as_os_str().is_empty() {
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
