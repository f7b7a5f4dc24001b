//! What the context does when it hears of what happened elsewhere.
//!
//! Invariant: the effect, the answering event and the note that the event was heard are one transaction.

use async_trait::async_trait;
use contracts::CallContext;
use contracts::events::{DomainEvent, Envelope, EventHandler, HandleError};
use contracts::orders::OrderCancelled;
use contracts::shipping::{CONTEXT, ShipmentStopFailed, ShipmentStopped, ShippingError};
use db::events::{Origin, first_time};

use crate::ShippingService;
use crate::store::{self, StoreError};

#[async_trait]
impl EventHandler for ShippingService {
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
            match store::stop(conn, order_id, now) {
                Ok(()) => outbox.publish(conn, &origin, &ShipmentStopped { order_id }, now)?,
                Err(StoreError::Shipping(refusal)) => {
                    let reason = refusal.to_string();
                    outbox.publish(conn, &origin, &ShipmentStopFailed { order_id, reason }, now)?;
                }
                Err(error) => return Err(error),
            }
            Ok::<_, StoreError>(())
        });
        handled.await.map_err(|error| match ShippingError::from(error) {
            ShippingError::Unavailable(cause) => cause.into(),
            refusal => HandleError::Rejected { reason: refusal.to_string() },
        })
    }
}
