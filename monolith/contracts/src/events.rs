//! Events between contexts: what one context says has happened, and how another one hears it.
//!
//! Invariant: an event is written in the transaction of what it tells of, is delivered to each consumer at least once and
//! in order per aggregate, and takes effect there once.

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{CallContext, Timestamp, Unavailable};

/// Something that happened in a context. Its name is in the past tense.
pub trait DomainEvent: Serialize + DeserializeOwned + Send + Sync {
    /// The name under which consumers know it: `orders.OrderCancelled`.
    const KIND: &'static str;

    /// What it happened to, such as `order/42`. Events of one aggregate are delivered in the order of their writing.
    fn aggregate(&self) -> String;
}

/// An event on its way to one consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The same for every consumer and every attempt: what a consumer knows a repeat by.
    pub id: String,
    /// [`DomainEvent::KIND`].
    pub kind: String,
    /// [`DomainEvent::aggregate`].
    pub aggregate: String,
    /// The event itself, as JSON.
    pub payload: Value,
    /// The request from outside that led to it.
    pub request_id: String,
    /// The W3C `traceparent` of that request, where it had one.
    pub traceparent: Option<String>,
    /// When it happened.
    pub occurred_at: Timestamp,
}

impl Envelope {
    /// The event, if it is of this kind and has its form.
    pub fn open<E: DomainEvent>(&self) -> Result<E, HandleError> {
        if self.kind != E::KIND {
            let reason = format!("it is a {}, not a {}", self.kind, E::KIND);
            return Err(HandleError::Rejected { reason });
        }
        serde_json::from_value(self.payload.clone()).map_err(|error| HandleError::Rejected {
            reason: format!("its payload is not a {}: {error}", E::KIND),
        })
    }
}

/// Why a consumer did not take an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// Trying again may help.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Trying again cannot help: an operator must look at it.
    #[error("the event cannot be handled: {reason}")]
    Rejected {
        /// Why.
        reason: String,
    },
}

/// A context's ear: hears the events that it subscribed to.
#[async_trait]
pub trait EventHandler: Send + Sync {
    /// Who hears: the context's name.
    fn consumer(&self) -> &'static str;

    /// The kinds that it hears.
    fn kinds(&self) -> &'static [&'static str];

    /// Takes the event. May be called again with the same envelope; the effect comes once.
    async fn handle(&self, ctx: &CallContext, event: &Envelope) -> Result<(), HandleError>;
}

/// Carries events from the outbox to their consumers: in this process by default, over a broker where there is one.
#[async_trait]
pub trait EventBus: Send + Sync {
    /// Delivers to one consumer and returns once that has taken the event, or the broker has it safe.
    async fn deliver(&self, ctx: &CallContext, consumer: &str, event: &Envelope) -> Result<(), HandleError>;
}
