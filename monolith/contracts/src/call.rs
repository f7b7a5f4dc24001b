//! What travels with every port call besides its arguments.

use std::time::{Duration, Instant};

use crate::idempotency::IdempotencyKey;

/// The identifier of one request from outside, carried through every call it causes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(pub String);

/// The first argument of every port method: who asks, under which request, until when an answer is of use.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The request that caused this call.
    pub request_id: RequestId,
    /// The W3C `traceparent` under which to go on; always there for a request by HTTP.
    pub traceparent: Option<String>,
    /// The instant after which the caller no longer waits.
    pub deadline: Instant,
    /// By what the context knows a repeat of this command, where the client gave a key. Reads ignore it.
    pub idempotency: Option<IdempotencyKey>,
}

impl CallContext {
    /// A call that may take `budget` from now.
    pub fn new(request_id: impl Into<String>, budget: Duration) -> Self {
        Self {
            request_id: RequestId(request_id.into()),
            traceparent: None,
            deadline: Instant::now() + budget,
            idempotency: None,
        }
    }

    /// What is left until the deadline; zero once it has passed.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// The context could not be asked, or did not answer in time. Every port's error enum has a variant for it,
/// also where context and caller share a process, so that callers handle it from day one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{context} is unavailable: {reason}")]
pub struct Unavailable {
    /// The context that was called.
    pub context: String,
    /// Why, for a log; never shown to a client.
    pub reason: String,
    /// Whether the command may have been carried out all the same.
    pub maybe_done: bool,
}
