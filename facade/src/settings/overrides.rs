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

/// A key that stays at one side while its context is in canary, whatever the weight is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PinSettings {
    /// The sticky key, to the letter.
    pub key: String,
    /// `monolith` or `service`. At 0 % nobody reads from the service, and under `extracted` nobody from the monolith:
    /// there a pin does nothing.
    pub side: String,
}
