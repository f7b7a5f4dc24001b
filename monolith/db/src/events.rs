//! Events on their way: the outbox they are written to, the inbox that knows repeats, and the relay between them.
//!
//! Invariant: an event is a row per consumer, written in the transaction of what it tells of; the row goes only once its
//! consumer has taken it, and the consumer's effect and its inbox row are one transaction.
//!
//! Order: of the rows of one consumer and aggregate only the oldest is ever delivered, and nothing overtakes it while it is
//! there, be it claimed, waiting for its next attempt or dead. That the oldest is known for good rests on the publisher:
//! events of one aggregate are written while the aggregate's own row is locked (updated, or read for update), so an older id
//! cannot appear after a newer one. Events of different aggregates have no order.

mod bus;
mod inbox;
mod operator;
mod outbox;
mod relay;
mod tables;

use crate::schema::SchemaSource;

pub use bus::InProcessBus;
pub use inbox::{first_time, purge_inbox};
pub use operator::{
    ConsumerLag, EventFilter, OperatorError, WaitingEvent, Which, discard, lag, list, retry, show,
};
pub use outbox::{Origin, Outbox};
pub use relay::{Relay, RelayHandle, RelaySettings, RelayStats};

/// The outbox and the inbox.
pub const SCHEMA: SchemaSource = SchemaSource {
    context: "events",
    migrations: &[crate::migration!("0001_events")],
    tables: &["banyan_inbox", "banyan_outbox"],
};

#[cfg(test)]
mod tests;
