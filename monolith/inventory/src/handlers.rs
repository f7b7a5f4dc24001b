//! What the context does when it hears of what happened elsewhere.
//!
//! Invariant: the effect, the answering event and the note that the event was heard are one transaction.

use async_trait::async_trait;
use contracts::CallContext;
use contracts::events::{DomainEvent, Envelope, EventHandler, HandleError};
use contracts::inventory::{CONTEXT, InventoryError, StockReleased};
use contracts::orders::OrderCancelled;
use db::events::{Origin, first_time};

use crate::InventoryService;
use crate::store::{self, StoreError};

#[async_trait]
impl EventHandler for InventoryService {
    fn consumer(&self) -> &'static str {
        CONTEXT
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[OrderCancelled::KIND]
    }

    async fn handle(&self, ctx: &CallContext, event: &Envelope) -> Result<(), HandleError> {
        let OrderCancelled { order_id } = event.open()?;
        let (outbox, origin, event, now) =
            (self.outbox.clone(), Origin::from(ctx), event.clone(), self.clock.now());
        let handled = self.db.write(move |conn| {
            if !first_time(conn, CONTEXT, &event, now)? {
                return Ok(());
            }
            store::release(conn, order_id, now)?;
            Ok::<_, StoreError>(outbox.publish(conn, &origin, &StockReleased { order_id }, now)?)
        });
        handled.await.map_err(|error| match InventoryError::from(error) {
            InventoryError::Unavailable(cause) => cause.into(),
            refusal => HandleError::Rejected { reason: refusal.to_string() },
        })
    }
}
