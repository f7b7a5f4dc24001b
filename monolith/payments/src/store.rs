//! The statements of the context. Each function belongs inside a transaction of its caller.
//!
//! Invariant: a status changes only from the one that allows it, and never once a refund was asked for; the statement
//! itself compares, so that of two processes one wins. Whoever loses reads what the winner left.

use contracts::payments::{Authorise, Charge, ChargeStatus, PaymentStatus};
use contracts::{OrderId, Timestamp};
use db::{Conn, DbError};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl, SelectableHelper};

use crate::domain::{self, Held, Row, RowError, text};
use crate::schema::payments_payments;

/// How an authorisation begins.
pub(crate) enum Begun {
    /// This call wrote the row.
    New(Held),
    /// An earlier one did, or a refund.
    Found(Held),
}

/// What the provider decided about an authorisation.
pub(crate) struct Decision {
    pub(crate) status: PaymentStatus,
    pub(crate) provider_id: Option<String>,
    pub(crate) declined_because: Option<String>,
}

impl Begun {
    pub(crate) fn held(&self) -> &Held {
        match self {
            Self::New(held) | Self::Found(held) => held,
        }
    }
}

impl Decision {
    pub(crate) fn charged(charge: Charge) -> Self {
        let is_captured = charge.status == ChargeStatus::Captured;
        let status = if is_captured { PaymentStatus::Captured } else { PaymentStatus::Authorised };
        Self { status, provider_id: Some(charge.id), declined_because: None }
    }

    pub(crate) fn declined(reason: String) -> Self {
        Self { status: PaymentStatus::Declined, provider_id: None, declined_because: Some(reason) }
    }
}

/// Writes down what the provider is going to be asked, unless the order has a row already.
pub(crate) fn begin(
    conn: &mut Conn,
    wish: &Authorise,
    key: String,
    now: Timestamp,
) -> Result<Begun, DbError> {
    let row = domain::first_row(wish, key, now);
    if insert(conn, &row)? == 0 {
        return Ok(Begun::Found(current(conn, wish.order_id)?));
    }
    Ok(Begun::New(domain::held(row).map_err(corrupt)?))
}

/// Keeps what the provider decided, if nobody was faster.
pub(crate) fn decide(
    conn: &mut Conn,
    order_id: OrderId,
    decision: &Decision,
    now: Timestamp,
) -> Result<Held, DbError> {
    diesel::update(payments_payments::table.find(order_id.get()))
        .filter(payments_payments::status.eq(text(PaymentStatus::Pending)))
        .filter(payments_payments::refund_asked_at.is_null())
        .set((
            payments_payments::status.eq(text(decision.status)),
            payments_payments::provider_id.eq(&decision.provider_id),
            payments_payments::declined_because.eq(&decision.declined_because),
            payments_payments::token.eq(None::<String>),
            payments_payments::updated_at.eq(now.as_millis()),
        ))
        .execute(conn)?;
    current(conn, order_id)
}

/// The amount was taken, if nobody asked for it back meanwhile.
pub(crate) fn capture(conn: &mut Conn, order_id: OrderId, now: Timestamp) -> Result<Held, DbError> {
    diesel::update(payments_payments::table.find(order_id.get()))
        .filter(payments_payments::status.eq(text(PaymentStatus::Authorised)))
        .filter(payments_payments::refund_asked_at.is_null())
        .set((
            payments_payments::status.eq(text(PaymentStatus::Captured)),
            payments_payments::updated_at.eq(now.as_millis()),
        ))
        .execute(conn)?;
    current(conn, order_id)
}

/// Closes the payment of an order. Where a provider holds something, it must be told before [`settle_refund`].
pub(crate) fn begin_refund(conn: &mut Conn, order_id: OrderId, now: Timestamp) -> Result<Held, DbError> {
    // First of all, so that an authorisation in flight is either found here or finds this row.
    insert(conn, &domain::tombstone(order_id, now))?;
    diesel::update(payments_payments::table.find(order_id.get()))
        .filter(payments_payments::refund_asked_at.is_null())
        .filter(payments_payments::status.ne(text(PaymentStatus::Declined)))
        .set((
            payments_payments::refund_asked_at.eq(now.as_millis()),
            payments_payments::token.eq(None::<String>),
            payments_payments::updated_at.eq(now.as_millis()),
        ))
        .execute(conn)?;
    let held = current(conn, order_id)?;
    if held.key.is_none() {
        settle_refund(conn, order_id, now)?;
    }
    Ok(held)
}

/// Nothing is held by anybody any more.
pub(crate) fn settle_refund(conn: &mut Conn, order_id: OrderId, now: Timestamp) -> Result<(), DbError> {
    let refunded = text(PaymentStatus::Refunded);
    diesel::update(payments_payments::table.find(order_id.get()))
        .filter(payments_payments::refund_asked_at.is_not_null())
        .filter(payments_payments::status.ne(refunded))
        .set((payments_payments::status.eq(refunded), payments_payments::updated_at.eq(now.as_millis())))
        .execute(conn)?;
    Ok(())
}

pub(crate) fn find(conn: &mut Conn, order_id: OrderId) -> Result<Option<Held>, DbError> {
    let row =
        payments_payments::table.find(order_id.get()).select(Row::as_select()).get_result(conn).optional()?;
    row.map(domain::held).transpose().map_err(corrupt)
}

/// The row of an order that has one.
fn current(conn: &mut Conn, order_id: OrderId) -> Result<Held, DbError> {
    find(conn, order_id)?.ok_or(DbError::Statement(diesel::result::Error::NotFound))
}

/// Adds the row unless the order has one; says how many were added.
fn insert(conn: &mut Conn, row: &Row) -> QueryResult<usize> {
    db::on_each!(conn, |conn| diesel::insert_into(payments_payments::table)
        .values(row)
        .on_conflict(payments_payments::order_id)
        .do_nothing()
        .execute(conn))
}

fn corrupt(error: RowError) -> DbError {
    DbError::Corrupt { what: format!("a payment with {error} in another form") }
}
