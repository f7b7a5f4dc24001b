//! A payments context in memory.
//!
//! Invariant: shows every fact of the port's suite.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Mishap, Mishaps};
use crate::payments::{Authorise, CONTEXT, Payment, PaymentMethod, PaymentStatus, Payments, PaymentsError};
use crate::suite::DECLINED_TOKEN;
use crate::{CallContext, OrderId, Timestamp};

/// A payments context in memory, which asks no provider.
#[derive(Debug, Default)]
pub struct FakePayments {
    book: Mutex<Book>,
    mishaps: Mishaps,
}

/// Nothing stands for an order that was refunded before it had a payment.
#[derive(Debug, Default)]
struct Book(BTreeMap<OrderId, Option<Payment>>);

impl FakePayments {
    /// The next command ends like this; several are used up in turn.
    pub fn befall(&self, mishap: Mishap) {
        self.mishaps.push(mishap);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command<T>(
        &self,
        work: impl FnOnce(&mut Book) -> Result<T, PaymentsError>,
    ) -> Result<T, PaymentsError> {
        let refused = |reason| PaymentsError::Refused { reason };
        self.mishaps.befall(CONTEXT, refused, || work(&mut self.book()))
    }
}

impl Book {
    fn authorise(&mut self, wish: &Authorise) -> Result<Payment, PaymentsError> {
        if wish.amount.minor < 1 {
            return Err(PaymentsError::Refused { reason: "the amount must be above zero".to_owned() });
        }
        let declined = (wish.method.expose() == DECLINED_TOKEN).then(|| "declined".to_owned());
        let status = if declined.is_some() { PaymentStatus::Declined } else { PaymentStatus::Authorised };
        let is_held = declined.is_none() && !wish.method.is_account();
        let at = Timestamp::from_millis(0);
        let entry = self.0.entry(wish.order_id).or_insert_with(|| {
            Some(Payment {
                order_id: wish.order_id,
                amount: wish.amount,
                method: wish.method.kind().to_owned(),
                status,
                provider_id: is_held.then(|| format!("fake-{}", wish.order_id)),
                declined_because: declined,
                created_at: at,
                updated_at: at,
            })
        });
        usable(wish.order_id, entry.as_mut()).cloned()
    }

    fn capture(&mut self, order_id: OrderId) -> Result<Payment, PaymentsError> {
        let entry = self.0.get_mut(&order_id).ok_or(PaymentsError::NotFound { order_id })?;
        let payment = usable(order_id, entry.as_mut())?;
        payment.status = PaymentStatus::Captured;
        Ok(payment.clone())
    }

    fn refund(&mut self, order_id: OrderId) {
        if let Some(payment) = self.0.entry(order_id).or_default()
            && payment.status != PaymentStatus::Declined
        {
            payment.status = PaymentStatus::Refunded;
        }
    }
}

/// The payment, unless it has come to an end.
fn usable(order_id: OrderId, payment: Option<&mut Payment>) -> Result<&mut Payment, PaymentsError> {
    match payment {
        Some(payment) if payment.status == PaymentStatus::Declined => {
            Err(PaymentsError::Declined { reason: payment.declined_because.clone().unwrap_or_default() })
        }
        Some(payment) if payment.status != PaymentStatus::Refunded => Ok(payment),
        _ => Err(PaymentsError::Refunded { order_id }),
    }
}

#[async_trait]
impl Payments for FakePayments {
    async fn accepts(&self, _: &CallContext, _: PaymentMethod) -> Result<(), PaymentsError> {
        Ok(())
    }

    async fn authorise(&self, _: &CallContext, wish: Authorise) -> Result<Payment, PaymentsError> {
        self.command(|book| book.authorise(&wish))
    }

    async fn capture(&self, _: &CallContext, order_id: OrderId) -> Result<Payment, PaymentsError> {
        self.command(|book| book.capture(order_id))
    }

    async fn refund(&self, _: &CallContext, order_id: OrderId) -> Result<(), PaymentsError> {
        self.command(|book| {
            book.refund(order_id);
            Ok(())
        })
    }

    async fn payment(&self, _: &CallContext, order_id: OrderId) -> Result<Payment, PaymentsError> {
        self.book().0.get(&order_id).cloned().flatten().ok_or(PaymentsError::NotFound { order_id })
    }
}
