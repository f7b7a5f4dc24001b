//! How new settings come in while the facade runs.
//!
//! Invariant: these are the words as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How new settings come in while the facade runs. They are checked as a whole; what is wrong, or needs a restart, is
/// refused with all the rest. SIGHUP reads them anew in any case.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReloadSettings {
    /// Whether the settings file is looked at each second and read anew once it has changed and stayed so for a
    /// second. Off, and a change waits for SIGHUP; on, and a file that is right but half edited takes effect.
    pub watch: bool,
}

impl Default for ReloadSettings {
    fn default() -> Self {
        Self { watch: true }
    }
}
