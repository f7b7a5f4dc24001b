//! The form in which the tables hold an order.
//!
//! Invariant: what is read back is what was written, or an error that says what is not understood.

use contracts::orders::{HistoryEntry, Order, OrderKind, OrderLine, OrderStatus};
use contracts::{
    CartId, CartIdError, Currency, IdError, Money, MoneyError, OrderId, ProductId, Timestamp, UserId,
};
use diesel::prelude::{AsChangeset, Insertable, Queryable, Selectable};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::Life;
use crate::schema::{orders_history, orders_lines, orders_orders};

/// One row of `orders_orders`.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = orders_orders)]
pub(super) struct OrderRow {
    pub(super) id: i64,
    pub(super) user_id: i64,
    reference: Option<String>,
    kind: String,
    status: String,
    currency: String,
    total_minor: i64,
    pub(super) placed_at_ms: i64,
    confirmed_at_ms: Option<i64>,
    cancelled_at_ms: Option<i64>,
    rejected_because: Option<String>,
    payment_method: Option<String>,
    ship_to: Option<String>,
    cart_id: Option<String>,
    cancellation: Option<String>,
}

/// An order that is about to be stored.
#[derive(Debug, Insertable)]
#[diesel(table_name = orders_orders, treat_none_as_default_value = false)]
pub(super) struct NewOrderRow<'a> {
    pub(super) user_id: i64,
    pub(super) reference: Option<&'a str>,
    pub(super) kind: &'static str,
    pub(super) status: &'static str,
    pub(super) currency: &'a str,
    pub(super) total_minor: i64,
    pub(super) placed_at_ms: i64,
    pub(super) confirmed_at_ms: Option<i64>,
    pub(super) payment_method: Option<&'a str>,
    pub(super) ship_to: Option<String>,
    pub(super) cart_id: Option<&'a str>,
}

/// What changes in an order after it was placed.
#[derive(Debug, AsChangeset)]
#[diesel(table_name = orders_orders, treat_none_as_null = true)]
pub(super) struct LifeRow<'a> {
    status: &'static str,
    confirmed_at_ms: Option<i64>,
    cancelled_at_ms: Option<i64>,
    rejected_because: Option<&'a str>,
    cancellation: Option<String>,
}

/// One row of `orders_lines`.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = orders_lines)]
pub(super) struct LineRow {
    pub(super) order_id: i64,
    position: i64,
    product_id: i64,
    quantity: i64,
    unit_price_minor: i64,
}

/// One row of `orders_history`.
#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = orders_history, treat_none_as_default_value = false)]
pub(super) struct EntryRow {
    pub(super) order_id: i64,
    pub(super) position: i64,
    pub(super) status: String,
    pub(super) at_ms: i64,
    pub(super) note: Option<String>,
}

/// Why rows are not ones that this program wrote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error("an id")]
    Id(#[from] IdError),
    #[error("the id of a cart")]
    Cart(#[from] CartIdError),
    #[error("a currency")]
    Currency(#[from] MoneyError),
    #[error("an address or a cancellation")]
    Json(#[from] serde_json::Error),
    #[error("a kind or status")]
    Word,
    #[error("a quantity")]
    Quantity,
}

impl OrderRow {
    pub(super) fn life(&self) -> Result<Life, RowError> {
        Ok(Life {
            kind: kind(&self.kind)?,
            status: status(&self.status)?,
            confirmed_at: self.confirmed_at_ms.map(Timestamp::from_millis),
            cancelled_at: self.cancelled_at_ms.map(Timestamp::from_millis),
            rejected_because: self.rejected_because.clone(),
            cancellation: parsed(self.cancellation.as_deref())?,
        })
    }

    /// The order; the lines in order of position.
    pub(super) fn order(self, lines: impl IntoIterator<Item = LineRow>) -> Result<Order, RowError> {
        let life = self.life()?;
        let currency = Currency::try_from(self.currency)?;
        Ok(Order {
            id: OrderId::try_from(self.id)?,
            user_id: UserId::try_from(self.user_id)?,
            reference: self.reference,
            kind: life.kind,
            status: life.status,
            lines: lines.into_iter().map(|line| line.line(currency)).collect::<Result<_, RowError>>()?,
            total: Money { minor: self.total_minor, currency },
            placed_at: Timestamp::from_millis(self.placed_at_ms),
            confirmed_at: life.confirmed_at,
            cancelled_at: life.cancelled_at,
            rejected_because: life.rejected_because,
            payment_method: self.payment_method,
            ship_to: parsed(self.ship_to.as_deref())?,
            cart_id: self.cart_id.map(CartId::try_from).transpose()?,
            cancellation: life.cancellation,
        })
    }
}

impl<'a> LifeRow<'a> {
    pub(super) fn of(life: &'a Life) -> Result<Self, RowError> {
        Ok(Self {
            status: status_word(life.status),
            confirmed_at_ms: life.confirmed_at.map(Timestamp::as_millis),
            cancelled_at_ms: life.cancelled_at.map(Timestamp::as_millis),
            rejected_because: life.rejected_because.as_deref(),
            cancellation: written(life.cancellation.as_ref())?,
        })
    }
}

impl LineRow {
    /// The rows of an order's lines.
    pub(super) fn of(order_id: i64, lines: &[OrderLine]) -> impl Iterator<Item = Self> {
        (0_i64..).zip(lines).map(move |(position, line)| Self {
            order_id,
            position,
            product_id: line.product_id.get(),
            quantity: i64::from(line.quantity),
            unit_price_minor: line.unit_price.minor,
        })
    }

    fn line(self, currency: Currency) -> Result<OrderLine, RowError> {
        Ok(OrderLine {
            product_id: ProductId::try_from(self.product_id)?,
            quantity: u32::try_from(self.quantity).map_err(|_| RowError::Quantity)?,
            unit_price: Money { minor: self.unit_price_minor, currency },
        })
    }
}

impl EntryRow {
    pub(super) fn entry(self) -> Result<HistoryEntry, RowError> {
        Ok(HistoryEntry {
            position: self.position,
            status: status(&self.status)?,
            at: Timestamp::from_millis(self.at_ms),
            note: self.note,
        })
    }
}

/// A value as a JSON column holds it.
pub(super) fn written<T: Serialize>(value: Option<&T>) -> Result<Option<String>, RowError> {
    Ok(value.map(serde_json::to_string).transpose()?)
}

fn parsed<T: DeserializeOwned>(text: Option<&str>) -> Result<Option<T>, RowError> {
    Ok(text.map(serde_json::from_str).transpose()?)
}

/// The word for a kind in the table.
pub(super) fn kind_word(kind: OrderKind) -> &'static str {
    match kind {
        OrderKind::Sale => "sale",
        OrderKind::Cancellation => "cancellation",
    }
}

/// The word for a status in the tables.
pub(super) fn status_word(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::Pending => "pending",
        OrderStatus::Confirmed => "confirmed",
        OrderStatus::Rejected => "rejected",
        OrderStatus::Cancelling => "cancelling",
        OrderStatus::Cancelled => "cancelled",
        OrderStatus::CancelFailed => "cancel_failed",
    }
}

fn kind(word: &str) -> Result<OrderKind, RowError> {
    let kinds = [OrderKind::Sale, OrderKind::Cancellation];
    kinds.into_iter().find(|kind| kind_word(*kind) == word).ok_or(RowError::Word)
}

fn status(word: &str) -> Result<OrderStatus, RowError> {
    use OrderStatus::{CancelFailed, Cancelled, Cancelling, Confirmed, Pending, Rejected};
    let statuses = [Pending, Confirmed, Rejected, Cancelling, Cancelled, CancelFailed];
    statuses.into_iter().find(|status| status_word(*status) == word).ok_or(RowError::Word)
}
