//! The events that the context hears: an order that is cancelled is refunded.
//!
//! Invariant: the provider is told before the transaction that takes the event and answers it. Whatever dies between, the
//! event comes again, and to refund twice is to refund once.

use async_trait::async_trait;
use contracts::events::{DomainEvent, Envelope, EventHandler, HandleError};
use contracts::orders::OrderCancelled;
use contracts::payments::{CONTEXT, PaymentRefundFailed, PaymentRefunded, Payments, PaymentsError};
use contracts::{CallContext, Unavailable};
use db::DbError;
use db::events::{Origin, first_time};

use crate::PaymentsService;

#[async_trait]
impl EventHandler for PaymentsService {
    fn consumer(&self) -> &'static str {
        CONTEXT
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[OrderCancelled::KIND]
    }

    async fn handle(&self, ctx: &CallContext, event: &Envelope) -> Result<(), HandleError> {
        let OrderCancelled { order_id } = event.open()?;
        let refusal = refusal(self.refund(ctx, order_id).await)?;
        let (outbox, now) = (self.outbox.clone(), self.clock.now());
        let (event, origin) = (event.clone(), Origin::from(ctx));
        let answered = self.db.write(move |conn| {
            if !first_time(conn, CONTEXT, &event, now)? {
                return Ok(());
            }
            match refusal {
                None => outbox.publish(conn, &origin, &PaymentRefunded { order_id }, now),
                Some(reason) => outbox.publish(conn, &origin, &PaymentRefundFailed { order_id, reason }, now),
            }
        });
        answered.await.map_err(|error: DbError| error.unavailable(CONTEXT).into())
    }
}

/// Why the money is not given back, where the provider will not; an error where asking again may help.
fn refusal(refunded: Result<(), PaymentsError>) -> Result<Option<String>, HandleError> {
    match refunded {
        Ok(()) => Ok(None),
        Err(PaymentsError::Refused { reason }) => Ok(Some(reason)),
        Err(PaymentsError::Unavailable(cause)) => Err(cause.into()),
        // The settings lack it now; with the next start they may have it again.
        Err(error @ PaymentsError::NoProvider) => {
            let context = CONTEXT.to_owned();
            Err(Unavailable { context, reason: error.to_string(), maybe_done: false }.into())
        }
        Err(error) => Err(HandleError::Rejected { reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests;
