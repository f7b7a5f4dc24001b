//! Outbox and inbox as diesel sees them.
//!
//! Invariant: the same columns as `migrations/0001_events`.

use contracts::Timestamp;
use contracts::events::Envelope;
use diesel::{Queryable, Selectable};
use serde_json::Value;

diesel::table! {
    banyan_outbox (id) {
        id -> BigInt,
        event_id -> Text,
        consumer -> Text,
        aggregate -> Text,
        kind -> Text,
        payload -> Text,
        request_id -> Text,
        traceparent -> Nullable<Text>,
        occurred_at_ms -> BigInt,
        available_at_ms -> BigInt,
        attempts -> Integer,
        claimed_by -> Nullable<Text>,
        claimed_until_ms -> Nullable<BigInt>,
        last_error -> Nullable<Text>,
        dead_at_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    banyan_inbox (consumer, event_id) {
        consumer -> Text,
        event_id -> Text,
        handled_at_ms -> BigInt,
    }
}

/// One event that one consumer has not taken yet.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = banyan_outbox)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) event_id: String,
    pub(super) consumer: String,
    pub(super) aggregate: String,
    pub(super) kind: String,
    pub(super) payload: String,
    pub(super) request_id: String,
    pub(super) traceparent: Option<String>,
    pub(super) occurred_at_ms: i64,
    pub(super) available_at_ms: i64,
    pub(super) attempts: i32,
    pub(super) claimed_by: Option<String>,
    pub(super) claimed_until_ms: Option<i64>,
    pub(super) last_error: Option<String>,
    pub(super) dead_at_ms: Option<i64>,
}

impl Row {
    /// The event as its consumer gets it. A payload that is no JSON is handed on as text: no consumer opens that.
    pub(super) fn envelope(&self) -> Envelope {
        Envelope {
            id: self.event_id.clone(),
            kind: self.kind.clone(),
            aggregate: self.aggregate.clone(),
            payload: self.payload(),
            request_id: self.request_id.clone(),
            traceparent: self.traceparent.clone(),
            occurred_at: Timestamp::from_millis(self.occurred_at_ms),
        }
    }

    pub(super) fn payload(&self) -> Value {
        serde_json::from_str(&self.payload).unwrap_or_else(|_| Value::String(self.payload.clone()))
    }
}
