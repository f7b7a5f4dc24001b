//! The bus inside one process: a delivery is a call of the consumer's handler.
//!
//! Invariant: a delivery has succeeded only when the handler says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use contracts::events::{Envelope, EventBus, EventHandler, HandleError};
use contracts::{CallContext, Unavailable};

use super::Outbox;

/// Calls the handlers of this process.
pub struct InProcessBus {
    handlers: BTreeMap<&'static str, Vec<Arc<dyn EventHandler>>>,
}

impl InProcessBus {
    /// A bus to these handlers.
    pub fn new(handlers: Vec<Arc<dyn EventHandler>>) -> Self {
        let mut of_consumer: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for handler in handlers {
            of_consumer.entry(handler.consumer()).or_default().push(handler);
        }
        Self { handlers: of_consumer }
    }

    /// Says which event would have no handler, or which handler would hear nothing, or share its ear with another.
    pub fn check(&self, outbox: &Outbox) -> Result<(), String> {
        let mut heard = BTreeSet::new();
        for (consumer, kind) in self.heard() {
            if !heard.insert((kind, consumer)) {
                return Err(format!(
                    "{consumer} has two handlers for {kind}; one of them would never hear it"
                ));
            }
        }
        let subscribed: BTreeSet<_> = outbox.subscriptions().collect();
        if let Some((kind, consumer)) = subscribed.difference(&heard).next() {
            return Err(format!(
                "{consumer} subscribed to {kind} and has no handler for it; give the bus one"
            ));
        }
        match heard.difference(&subscribed).next() {
            Some((kind, consumer)) => Err(format!(
                "{consumer} has a handler for {kind} and did not subscribe; add it to the outbox"
            )),
            None => Ok(()),
        }
    }

    fn heard(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let handlers = self.handlers.values().flatten();
        handlers.flat_map(|handler| handler.kinds().iter().map(|kind| (handler.consumer(), *kind)))
    }
}

#[async_trait]
impl EventBus for InProcessBus {
    async fn deliver(&self, ctx: &CallContext, consumer: &str, event: &Envelope) -> Result<(), HandleError> {
        let handlers = self.handlers.get(consumer).into_iter().flatten();
        let mut hearing = handlers.filter(|handler| handler.kinds().contains(&event.kind.as_str()));
        let Some(handler) = hearing.next() else {
            // Another process, of a newer version, may have one.
            let reason = format!("it has no handler for {} in this process", event.kind);
            return Err(Unavailable { context: consumer.to_owned(), reason, maybe_done: false }.into());
        };
        handler.handle(ctx, event).await
    }
}
