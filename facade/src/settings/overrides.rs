//! Whose requests go where the flags do not say.
//!
//! Invariant: these are the words as written; [`crate::plan::Plan`] checks them.

use platform::settings::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Signed overrides, with which testers choose the side that answers their own reads; `facade override` makes one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OverrideSettings {
    /// Secret of at least 32 characters that overrides are signed with; empty, and there are none. Whoever has it reads
    /// from either side; with another one at some facade, overrides work now and then.
    pub secret: Secret,
    /// Header that carries overrides.
    pub header: String,
    /// What the name of the cookie that carries an override begins with; `-` and the context follow.
    pub cookie: String,
}

impl Default for OverrideSettings {
    fn default() -> Self {
        let name = "banyan-override".to_owned();
        Self { secret: Secret::default(), header: name.clone(), cookie: name }
    }
}
