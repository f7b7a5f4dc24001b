//! Idempotency keys: how a client says that a command is the one it has sent before.
//!
//! Invariant: a key belongs to one command. The context that carries a command out keeps the key with its result, in the
//! transaction of the effect, so that a repeat finds either both or neither.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most characters of a key.
pub const KEY_MAX: usize = 255;

/// A client's key for one command, with what tells the command from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    key: String,
    fingerprint: String,
}

/// A text that cannot be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {KEY_MAX} visible ASCII characters")]
pub struct KeyError;

impl IdempotencyKey {
    /// The key as the client sent it, and a fingerprint that differs between different commands.
    pub fn parse(key: &str, fingerprint: impl Into<String>) -> Result<Self, KeyError> {
        let is_visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.is_empty() || key.len() > KEY_MAX || !is_visible {
            return Err(KeyError);
        }
        Ok(Self { key: key.to_owned(), fingerprint: fingerprint.into() })
    }

    /// The key alone.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What tells this command from another one.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// The key was used for another command before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("the idempotency key `{key}` was used for another request before")]
pub struct KeyReused {
    /// The key.
    pub key: String,
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)
    }
}
