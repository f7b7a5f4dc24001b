//! The copy of the last known flags.
//!
//! Invariant: these are the words as written.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Settings;

/// A copy of the last known flags on disk, with which a facade starts while the control store cannot be reached. It is
/// then degraded, and takes no writes of contexts whose owner may have changed meanwhile.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FlagsCopySettings {
    /// Whether there is one. Off, and a facade does not start without the control store.
    pub enabled: bool,
    /// The file; only its owner may read it. Empty means beside `control.path`, with `.flags.json` added to its name, and
    /// with `control.url` `facade.flags.json` beside the settings file. Facades on one control store may share it. A
    /// relative path means one beside the settings file. On a disk that does not outlive a restart, it is of no use.
    pub path: PathBuf,
}

impl Default for FlagsCopySettings {
    fn default() -> Self {
        Self { enabled: true, path: PathBuf::new() }
    }
}

impl Settings {
    /// Where the copy of the flags is; none where there is none, or where nothing says where.
    pub fn flags_copy_path(&self) -> Option<PathBuf> {
        let FlagsCopySettings { enabled, path } = &self.flags_copy;
        let is_set = |path: &PathBuf| !path.as_os_str().is_empty();
        let beside = || {
            let mut name = self.control.path.clone().into_os_string();
            name.push(".flags.json");
            PathBuf::from(name)
        };
        let path = is_set(path).then(|| path.clone());
        path.or_else(|| is_set(&self.control.path).then(beside)).filter(|_| *enabled)
    }
}
