//! Idempotency keys in memory.
//!
//! Invariant: a key belongs to one command and keeps its first result.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{CallContext, KeyReused};

/// The keys of one context.
#[derive(Debug, Default)]
pub(crate) struct Keys(Mutex<Held>);

/// Command, fingerprint and result, by key.
type Held = HashMap<String, (&'static str, String, Value)>;

impl Keys {
    /// What the command came to under this key before.
    pub(crate) fn found<T: DeserializeOwned>(
        &self,
        ctx: &CallContext,
        scope: &'static str,
    ) -> Result<Option<T>, KeyReused> {
        let Some(key) = &ctx.idempotency else { return Ok(None) };
        match self.held().get(key.key()) {
            None => Ok(None),
            Some((of_scope, fingerprint, value))
                if *of_scope == scope && fingerprint == key.fingerprint() =>
            {
                Ok(serde_json::from_value(value.clone()).ok())
            }
            Some(_) => Err(KeyReused { key: key.key().to_owned() }),
        }
    }

    /// Keeps what the command came to, and returns it.
    pub(crate) fn keep<T: Serialize>(&self, ctx: &CallContext, scope: &'static str, value: T) -> T {
        if let (Some(key), Ok(json)) = (&ctx.idempotency, serde_json::to_value(&value)) {
            self.held().insert(key.key().to_owned(), (scope, key.fingerprint().to_owned(), json));
        }
        value
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
