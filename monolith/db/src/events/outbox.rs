//! The outbox as a publisher sees it.
//!
//! Invariant: an event is committed with what it tells of or not at all, in one row for each consumer that subscribed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contracts::events::DomainEvent;
use contracts::{CallContext, Timestamp};
use diesel::{ExpressionMethods, RunQueryDsl};
use uuid::Uuid;

use super::tables::banyan_outbox;
use crate::wake::{self, Work};
use crate::{Conn, DbError};

/// Takes events for those who subscribed to them. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Outbox {
    consumers: Arc<BTreeMap<&'static str, BTreeSet<&'static str>>>,
}

/// The request from outside that something happens for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its identifier.
    pub request_id: String,
    /// Its W3C `traceparent`, where it had one.
    pub traceparent: Option<String>,
}

impl From<&CallContext> for Origin {
    fn from(ctx: &CallContext) -> Self {
        Self { request_id: ctx.request_id.0.clone(), traceparent: ctx.traceparent.clone() }
    }
}

impl Outbox {
    /// An outbox for these subscriptions: kind of event, and consumer.
    pub fn new(subscriptions: &[(&'static str, &'static str)]) -> Self {
        let mut consumers: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (kind, consumer) in subscriptions {
            consumers.entry(*kind).or_default().insert(*consumer);
        }
        Self { consumers: Arc::new(consumers) }
    }

    /// Everybody who subscribed to anything.
    pub fn consumers(&self) -> Vec<&'static str> {
        let consumers: BTreeSet<_> = self.subscriptions().map(|(_, consumer)| consumer).collect();
        consumers.into_iter().collect()
    }

    pub(super) fn subscriptions(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let each = |(kind, consumers): (&&'static str, &BTreeSet<&'static str>)| {
            let kind = *kind;
            consumers.iter().map(move |consumer| (kind, *consumer)).collect::<Vec<_>>()
        };
        self.consumers.iter().flat_map(each).collect::<Vec<_>>().into_iter()
    }

    /// Writes the event in the caller's transaction, which holds the lock of the aggregate's own row. An event that nobody
    /// hears writes nothing. After the commit the relay of this process wakes up.
    pub fn publish<E: DomainEvent>(
        &self,
        conn: &mut Conn,
        origin: &Origin,
        event: &E,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let Some(consumers) = self.consumers.get(E::KIND) else { return Ok(()) };
        let payload = serde_json::to_string(event)
            .map_err(|error| diesel::result::Error::SerializationError(Box::new(error)))?;
        let (event_id, aggregate) = (Uuid::now_v7().to_string(), event.aggregate());
        for consumer in consumers {
            diesel::insert_into(banyan_outbox::table)
                .values((
                    banyan_outbox::event_id.eq(&event_id),
                    banyan_outbox::consumer.eq(*consumer),
                    banyan_outbox::aggregate.eq(&aggregate),
                    banyan_outbox::kind.eq(E::KIND),
                    banyan_outbox::payload.eq(&payload),
                    banyan_outbox::request_id.eq(&origin.request_id),
                    banyan_outbox::traceparent.eq(&origin.traceparent),
                    banyan_outbox::occurred_at_ms.eq(now.as_millis()),
                    banyan_outbox::available_at_ms.eq(now.as_millis()),
                ))
                .execute(conn)?;
        }
        wake::after_commit(Work::Events);
        Ok(())
    }
}
