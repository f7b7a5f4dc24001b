//! `extraction.toml`: which tables of a context move, and the SQL that maps them there and back.
//!
//! Change capture needs of a mapping where its rows come from (`from`, `from_key`), which filled columns hold that key
//! (`carries`), and which other tables it reads (`join`). Dual-write needs versions: `[source]` and `[target]` with `version`.
//!
//! Invariant: a [`Manifest`] that parsed is consistent in itself (every table has its mapping, every select can be
//! restricted to a set of keys); whether the databases agree with it is for `plan` to find out.

mod check;
mod stream;

use std::fmt;
use std::path::{Path, PathBuf};

use platform::settings::SettingsError;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::engine::Join;
use crate::flow::{End, Flow};
use check::Fault;

/// Where a select is restricted to the keys wanted: `{keys u.id}` becomes a condition on `u.id`.
pub const KEYS_OPEN: &str = "{keys ";

/// One extraction: both ends and the mapping in both directions.
#[derive(Debug, Clone, Serialize)]
pub struct Manifest {
    /// The context that moves.
    pub context: String,
    /// The monolith's tables.
    pub source: Tables,
    /// The service's tables.
    pub target: Tables,
    /// How each target table is made from source tables.
    pub mapping: Vec<TableMap>,
    /// How each source table is made from target tables.
    pub inverse: Vec<TableMap>,
}

/// The tables of one end. All of it is needed for dual-write; with change capture it only spares repetition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tables {
    /// The table with one row per key; the default of `from` in mappings that read this end.
    pub root: String,
    /// Its key column; the default of `from_key`.
    pub key: String,
    /// Its version column: the context's counter at the row's last change. Only dual-write needs it.
    pub version: String,
    /// All tables of the context, those that others refer to first; empty: in the order of their mappings.
    pub tables: Vec<String>,
}

/// How one table is made from the tables of the other end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableMap {
    /// The table made.
    pub table: String,
    /// The columns that identify its row; the first holds the root's key.
    pub key: Vec<String>,
    /// All columns made, in the order of the select's.
    pub columns: Vec<String>,
    /// Columns that hold JSON and are compared as such, whatever their blanks.
    pub json: Vec<String>,
    /// The select, with `{keys …}` where it is restricted.
    pub select: String,
    /// The table with one row per source key, at the end that is read.
    #[serde(skip)]
    pub from: String,
    /// The source key.
    #[serde(skip)]
    pub from_key: Vec<String>,
    /// The filled columns that hold the source key; empty: a key map is kept.
    #[serde(skip)]
    pub carries: Vec<String>,
    /// The other tables that the select reads.
    #[serde(skip)]
    pub joins: Vec<Join>,
}

/// What is wrong with a manifest, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// The file.
    pub file: PathBuf,
    /// The line, if it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.message),
            None => write!(f, "{}: {}", self.file.display(), self.message),
        }
    }
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn load(file: &Path) -> Result<Self, ManifestError> {
        let text = platform::settings::read(file).map_err(|error| {
            let reason = match error {
                SettingsError::Unreadable { reason, .. } => reason,
                SettingsError::NoFile { .. } | SettingsError::Invalid(_) => {
                    "there is no such file".to_owned()
                }
            };
            let message = format!("cannot read the manifest: {reason}; set extractions.CONTEXT.manifest");
            ManifestError { file: file.to_owned(), line: None, message }
        })?;
        Self::parse(file, &text)
    }

    /// Checks a manifest's text; `file` is only for messages.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ManifestError> {
        let at = |fault: Fault| ManifestError {
            file: file.to_owned(),
            line: fault.0.map(|span| line_of(text, span.start)),
            message: fault.1,
        };
        let parsed: check::File =
            toml::from_str(text).map_err(|error| at(Fault(error.span(), error.message().to_owned())))?;
        check::check(parsed).map_err(at)
    }

    /// Whether it says what dual-write needs.
    pub fn has_versions(&self) -> bool {
        !self.source.version.is_empty()
    }

    /// The tables of one end.
    pub fn tables(&self, end: End) -> &Tables {
        match end {
            End::Source => &self.source,
            End::Target => &self.target,
        }
    }

    /// The maps that make the tables of `flow.to`, in that end's order of dependency.
    pub fn maps(&self, flow: Flow) -> &[TableMap] {
        self.maps_into(flow.to)
    }

    /// The maps that make the tables of one end out of the other's.
    pub fn maps_into(&self, end: End) -> &[TableMap] {
        match end {
            End::Source => &self.inverse,
            End::Target => &self.mapping,
        }
    }

    /// A hash over everything that decides what the copy looks like; comments and layout of the file do not count.
    pub fn hash(&self) -> String {
        let normal = serde_json::to_vec(self).unwrap_or_default();
        format!("{:016x}", XxHash3_64::oneshot(&normal))
    }
}

impl TableMap {
    /// The column that holds the root's key.
    pub fn root_key(&self) -> &str {
        self.key.first().map_or("", String::as_str)
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
