//! The form in which the table holds a payment, and what may be done with it.
//!
//! Invariant: once a refund was asked for, a payment is of no more use, whatever its status still is.

use contracts::payments::{Authorise, Payment, PaymentMethod, PaymentStatus, PaymentsError};
use contracts::{Currency, FieldError, IdError, Money, MoneyError, OrderId, Timestamp};
use diesel::prelude::{Identifiable, Insertable, Queryable, Selectable};

use crate::schema::payments_payments;

const STATUSES: [PaymentStatus; 5] = [
    PaymentStatus::Pending,
    PaymentStatus::Authorised,
    PaymentStatus::Captured,
    PaymentStatus::Declined,
    PaymentStatus::Refunded,
];

/// One row of `payments_payments`.
#[derive(Clone, Identifiable, Queryable, Selectable, Insertable)]
#[diesel(table_name = payments_payments, primary_key(order_id), treat_none_as_default_value = false)]
pub(crate) struct Row {
    pub(crate) order_id: i64,
    pub(crate) provider_key: Option<String>,
    pub(crate) amount_minor: Option<i64>,
    pub(crate) currency: Option<String>,
    pub(crate) method: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) status: String,
    pub(crate) provider_id: Option<String>,
    pub(crate) declined_because: Option<String>,
    pub(crate) refund_asked_at: Option<i64>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

/// What the context holds for an order.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) order_id: OrderId,
    /// Nothing for an order that was refunded before it had a payment.
    pub(crate) payment: Option<Payment>,
    /// Under which key the provider knows it; nothing on account.
    pub(crate) key: Option<String>,
    token: Option<PaymentMethod>,
    is_refund_asked: bool,
}

/// What a provider is asked for one payment.
pub(crate) struct Question<'a> {
    pub(crate) key: &'a str,
    pub(crate) amount: Money,
    pub(crate) token: &'a PaymentMethod,
}

/// Why a row is not one that this program wrote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error("an order's id")]
    Id(#[from] IdError),
    #[error("a currency")]
    Currency(#[from] MoneyError),
    #[error("a token")]
    Token(#[from] FieldError),
    #[error("the status `{0}`")]
    Status(String),
}

impl Held {
    /// The payment, if it can still come to something.
    pub(crate) fn usable(&self) -> Result<Payment, PaymentsError> {
        match &self.payment {
            Some(payment) if payment.status == PaymentStatus::Declined => {
                Err(PaymentsError::Declined { reason: payment.declined_because.clone().unwrap_or_default() })
            }
            Some(payment) if !self.is_refund_asked => Ok(payment.clone()),
            _ => Err(PaymentsError::Refunded { order_id: self.order_id }),
        }
    }

    /// What the provider has to decide; nothing once it has, or once there is no use in it.
    pub(crate) fn question(&self) -> Option<Question<'_>> {
        let amount = self.payment.as_ref()?.amount;
        Some(Question { key: self.key.as_deref()?, amount, token: self.token.as_ref()? })
    }

    /// The key under which the provider still has to be told of the refund.
    pub(crate) fn unsettled_key(self) -> Option<String> {
        let is_refunded = self.payment.is_none_or(|payment| payment.status == PaymentStatus::Refunded);
        self.key.filter(|_| self.is_refund_asked && !is_refunded)
    }
}

/// The row that a payment begins with.
pub(crate) fn first_row(wish: &Authorise, key: String, now: Timestamp) -> Row {
    let is_account = wish.method.is_account();
    let status = if is_account { PaymentStatus::Authorised } else { PaymentStatus::Pending };
    Row {
        provider_key: (!is_account).then_some(key),
        amount_minor: Some(wish.amount.minor),
        currency: Some(wish.amount.currency.into()),
        method: Some(wish.method.kind().to_owned()),
        token: (!is_account).then(|| wish.method.expose().to_owned()),
        status: text(status).to_owned(),
        refund_asked_at: None,
        ..tombstone(wish.order_id, now)
    }
}

/// The row of an order that is refunded before it has a payment.
pub(crate) fn tombstone(order_id: OrderId, now: Timestamp) -> Row {
    Row {
        order_id: order_id.get(),
        provider_key: None,
        amount_minor: None,
        currency: None,
        method: None,
        token: None,
        status: text(PaymentStatus::Refunded).to_owned(),
        provider_id: None,
        declined_because: None,
        refund_asked_at: Some(now.as_millis()),
        created_at: now.as_millis(),
        updated_at: now.as_millis(),
    }
}

/// What a row says.
pub(crate) fn held(row: Row) -> Result<Held, RowError> {
    let order_id = OrderId::try_from(row.order_id)?;
    let status = STATUSES.into_iter().find(|status| text(*status) == row.status);
    let status = status.ok_or(RowError::Status(row.status))?;
    let is_refund_asked = row.refund_asked_at.is_some();
    let token = row.token.map(PaymentMethod::parse).transpose()?;
    let (Some(minor), Some(currency), Some(method)) = (row.amount_minor, row.currency, row.method) else {
        return Ok(Held { order_id, payment: None, key: row.provider_key, token, is_refund_asked });
    };
    let payment = Payment {
        order_id,
        amount: Money { minor, currency: Currency::try_from(currency)? },
        method,
        status,
        provider_id: row.provider_id,
        declined_because: row.declined_because,
        created_at: Timestamp::from_millis(row.created_at),
        updated_at: Timestamp::from_millis(row.updated_at),
    };
    Ok(Held { order_id, payment: Some(payment), key: row.provider_key, token, is_refund_asked })
}

/// The status as the table holds it.
pub(crate) fn text(status: PaymentStatus) -> &'static str {
    match status {
        PaymentStatus::Pending => "pending",
        PaymentStatus::Authorised => "authorised",
        PaymentStatus::Captured => "captured",
        PaymentStatus::Declined => "declined",
        PaymentStatus::Refunded => "refunded",
    }
}
