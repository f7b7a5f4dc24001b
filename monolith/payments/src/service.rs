//! The payments port, over the store and a payment provider.
//!
//! Invariant: the provider is never asked inside a transaction, and always under the key of the row, so asking again
//! after any crash or silence charges nobody twice. Where a refund came meanwhile, it wins.

use std::sync::Arc;

use async_trait::async_trait;
use contracts::payments::{
    Authorise, CONTEXT, Charge, ChargeStatus, Payment, PaymentMethod, PaymentProvider, PaymentStatus,
    Payments, PaymentsError, ProviderError,
};
use contracts::{CallContext, Clock, Money, OrderId, Unavailable};
use db::events::Outbox;
use db::{Conn, Db, DbError};
use uuid::Uuid;

use crate::domain::{Held, Question};
use crate::store::{self, Begun, Decision};

/// The payments context on a database that holds [`SCHEMA`](crate::SCHEMA).
#[derive(Clone)]
pub struct PaymentsService {
    pub(crate) db: Db,
    pub(crate) clock: Arc<dyn Clock>,
    provider: Option<Arc<dyn PaymentProvider>>,
    pub(crate) outbox: Outbox,
}

impl PaymentsService {
    /// The context on this database. Without a provider everything is paid on account.
    pub fn new(
        db: Db,
        clock: Arc<dyn Clock>,
        provider: Option<Arc<dyn PaymentProvider>>,
        outbox: Outbox,
    ) -> Self {
        Self { db, clock, provider, outbox }
    }

    fn provider(&self) -> Result<&dyn PaymentProvider, PaymentsError> {
        self.provider.as_deref().ok_or(PaymentsError::NoProvider)
    }

    /// Keeps what the provider did. When that fails, the provider has done it all the same.
    async fn keep<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, PaymentsError> {
        self.db.write(work).await.map_err(|error| maybe_done(error.unavailable(CONTEXT)))
    }

    async fn find(&self, order_id: OrderId) -> Result<Option<Held>, PaymentsError> {
        self.db.read_one(move |conn| store::find(conn, order_id)).await.map_err(unavailable)
    }

    /// Why the provider's answer ends a call: because of a refund that came meanwhile, where one did.
    async fn explain(&self, order_id: OrderId, error: ProviderError) -> PaymentsError {
        if let ProviderError::Refused { .. } = error
            && let Ok(Some(held)) = self.find(order_id).await
            && let Err(closed) = held.usable()
        {
            return closed;
        }
        failed(error)
    }

    /// The payment, unless it was closed while the provider was at work: then what the provider did is undone.
    async fn unless_closed(&self, ctx: &CallContext, held: Held) -> Result<Payment, PaymentsError> {
        let usable = held.usable();
        if let Err(PaymentsError::Refunded { order_id }) = usable {
            self.refund(ctx, order_id).await?;
        }
        usable
    }
}

#[async_trait]
impl Payments for PaymentsService {
    async fn accepts(&self, _: &CallContext, method: PaymentMethod) -> Result<(), PaymentsError> {
        if method.is_account() { Ok(()) } else { self.provider().map(drop) }
    }

    async fn authorise(&self, ctx: &CallContext, wish: Authorise) -> Result<Payment, PaymentsError> {
        check(wish.amount)?;
        self.accepts(ctx, wish.method.clone()).await?;
        let (order_id, now) = (wish.order_id, self.clock.now());
        let key = format!("order-{order_id}-{}", Uuid::new_v4().simple());
        let begun =
            self.db.write(move |conn| store::begin(conn, &wish, key, now)).await.map_err(unavailable)?;
        let Some(question) = begun.held().question() else { return begun.held().usable() };
        let decision = match charge(self.provider()?, ctx, &begun, &question).await {
            Ok(Charge { status: ChargeStatus::Voided, .. }) => {
                self.refund(ctx, order_id).await?;
                return Err(PaymentsError::Refunded { order_id });
            }
            Ok(charge) => Decision::charged(charge),
            Err(ProviderError::Declined { reason }) => Decision::declined(reason),
            Err(error) => return Err(self.explain(order_id, error).await),
        };
        let now = self.clock.now();
        let held = self.keep(move |conn| store::decide(conn, order_id, &decision, now)).await?;
        self.unless_closed(ctx, held).await
    }

    async fn capture(&self, ctx: &CallContext, order_id: OrderId) -> Result<Payment, PaymentsError> {
        let held = self.find(order_id).await?.ok_or(PaymentsError::NotFound { order_id })?;
        let payment = held.usable()?;
        match (payment.status, &payment.provider_id) {
            (PaymentStatus::Captured, _) => return Ok(payment),
            (PaymentStatus::Pending, _) => return Err(undecided().into()),
            (_, Some(id)) => {
                if let Err(error) = self.provider()?.capture(ctx, id).await {
                    return Err(self.explain(order_id, error).await);
                }
            }
            // On account there is nobody to ask.
            (_, None) => {}
        }
        let now = self.clock.now();
        let held = self.keep(move |conn| store::capture(conn, order_id, now)).await?;
        self.unless_closed(ctx, held).await
    }

    async fn refund(&self, ctx: &CallContext, order_id: OrderId) -> Result<(), PaymentsError> {
        let now = self.clock.now();
        let begun = self.db.write(move |conn| store::begin_refund(conn, order_id, now));
        let Some(key) = begun.await.map_err(unavailable)?.unsettled_key() else { return Ok(()) };
        self.provider()?.void(ctx, &key).await.map_err(failed)?;
        let now = self.clock.now();
        self.keep(move |conn| store::settle_refund(conn, order_id, now)).await
    }

    async fn payment(&self, _: &CallContext, order_id: OrderId) -> Result<Payment, PaymentsError> {
        let held = self.find(order_id).await?;
        held.and_then(|held| held.payment).ok_or(PaymentsError::NotFound { order_id })
    }
}

/// Has the provider decide. What an earlier attempt brought about, whether or not its answer came, counts.
async fn charge(
    provider: &dyn PaymentProvider,
    ctx: &CallContext,
    begun: &Begun,
    question: &Question<'_>,
) -> Result<Charge, ProviderError> {
    if let Begun::Found(_) = begun
        && let Some(charge) = provider.find(ctx, question.key).await?
    {
        return Ok(charge);
    }
    provider.authorise(ctx, question.key, question.amount, question.token).await
}

fn check(amount: Money) -> Result<(), PaymentsError> {
    if amount.minor > 0 {
        return Ok(());
    }
    Err(PaymentsError::Refused { reason: format!("an amount is above zero, and {} is not", amount.minor) })
}

fn unavailable(error: DbError) -> PaymentsError {
    error.unavailable(CONTEXT).into()
}

/// What the provider's failure means to a caller of ours.
fn failed(error: ProviderError) -> PaymentsError {
    match error {
        ProviderError::Declined { reason } => PaymentsError::Declined { reason },
        ProviderError::Refused { reason } => PaymentsError::Refused { reason },
        ProviderError::Unavailable(cause) => maybe_done(cause),
    }
}

/// Even where this attempt did nothing, an earlier one under the same key may have got through.
fn maybe_done(cause: Unavailable) -> PaymentsError {
    Unavailable { maybe_done: true, ..cause }.into()
}

fn undecided() -> Unavailable {
    let reason = "the provider has not answered the authorisation yet; authorise again first".to_owned();
    Unavailable { context: CONTEXT.to_owned(), reason, maybe_done: false }
}

#[cfg(test)]
pub(crate) mod tests;
