//! What the context hears of a cancellation: each part that was to be undone answers.
//!
//! Invariant: an answer and its effect are one transaction, so it takes effect once, however often it comes.

use async_trait::async_trait;
use contracts::CallContext;
use contracts::OrderId;
use contracts::events::{DomainEvent, Envelope, EventHandler, HandleError};
use contracts::inventory::StockReleased;
use contracts::orders::{CONTEXT, CancellationPart, OrdersError};
use contracts::payments::{PaymentRefundFailed, PaymentRefunded};
use contracts::shipping::{ShipmentStopFailed, ShipmentStopped};
use db::events::first_time;

use crate::OrdersService;
use crate::domain::{Command, Part};
use crate::store::{self, StoreError};

#[async_trait]
impl EventHandler for OrdersService {
    fn consumer(&self) -> &'static str {
        CONTEXT
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[
            StockReleased::KIND,
            PaymentRefunded::KIND,
            PaymentRefundFailed::KIND,
            ShipmentStopped::KIND,
            ShipmentStopFailed::KIND,
        ]
    }

    async fn handle(&self, _: &CallContext, event: &Envelope) -> Result<(), HandleError> {
        let (order_id, part, answer) = answer(event)?;
        let (event, now) = (event.clone(), self.clock.now());
        let handled = self.db.write(move |conn| {
            if first_time(conn, CONTEXT, &event, now)? {
                store::advance(conn, order_id, Command::Answer { part, answer }, now)?;
            }
            Ok::<_, StoreError>(())
        });
        handled.await.map_err(|error| match OrdersError::from(error) {
            OrdersError::Unavailable(cause) => cause.into(),
            refusal => HandleError::Rejected { reason: refusal.to_string() },
        })
    }
}

/// Which part of which order's cancellation the event answers for, and what.
fn answer(event: &Envelope) -> Result<(OrderId, Part, CancellationPart), HandleError> {
    use CancellationPart::{Done, Failed};
    Ok(match event.kind.as_str() {
        PaymentRefunded::KIND => (event.open::<PaymentRefunded>()?.order_id, Part::Payment, Done),
        PaymentRefundFailed::KIND => {
            let PaymentRefundFailed { order_id, reason } = event.open()?;
            (order_id, Part::Payment, Failed { reason })
        }
        ShipmentStopped::KIND => (event.open::<ShipmentStopped>()?.order_id, Part::Shipment, Done),
        ShipmentStopFailed::KIND => {
            let ShipmentStopFailed { order_id, reason } = event.open()?;
            (order_id, Part::Shipment, Failed { reason })
        }
        _ => (event.open::<StockReleased>()?.order_id, Part::Stock, Done),
    })
}

#[cfg(test)]
mod tests;
