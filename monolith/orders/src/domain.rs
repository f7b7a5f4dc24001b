//! Prices, totals, and the form in which the tables hold an order.
//!
//! Invariant: an order has at least one line, one currency, and a total that is the sum of its lines.

use std::collections::HashMap;

use contracts::catalog::Product;
use contracts::orders::{Order, OrderKind, OrderLine, OrderStatus, OrdersError, PlaceOrder};
use contracts::{Currency, IdError, Money, MoneyError, OrderId, ProductId, Timestamp, UserId};
use diesel::prelude::{Insertable, Queryable, Selectable};

use crate::schema::{orders_lines, orders_orders};

/// One row of `orders_orders`.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = orders_orders)]
pub(crate) struct OrderRow {
    pub(crate) id: i64,
    pub(crate) user_id: i64,
    pub(crate) reference: Option<String>,
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) currency: String,
    pub(crate) total_minor: i64,
    pub(crate) placed_at_ms: i64,
    pub(crate) cancelled_at_ms: Option<i64>,
}

/// One row of `orders_lines`.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = orders_lines)]
pub(crate) struct LineRow {
    pub(crate) order_id: i64,
    pub(crate) position: i64,
    pub(crate) product_id: i64,
    pub(crate) quantity: i64,
    pub(crate) unit_price_minor: i64,
}

/// Why rows are not ones that this program wrote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error("an id")]
    Id(#[from] IdError),
    #[error("a currency")]
    Currency(#[from] MoneyError),
    #[error("a kind or status")]
    Word,
    #[error("a quantity")]
    Quantity,
}

/// The lines of a wish at today's prices.
pub(crate) fn priced(wish: &PlaceOrder, products: &[Product]) -> Result<Vec<OrderLine>, OrdersError> {
    let prices: HashMap<ProductId, Money> =
        products.iter().map(|product| (product.id, product.details.price)).collect();
    let price = |(line, (id, quantity)): (usize, &(ProductId, u32))| match prices.get(id) {
        Some(price) => Ok(OrderLine { product_id: *id, quantity: *quantity, unit_price: *price }),
        None => Err(OrdersError::NoSuchProduct { id: *id, line }),
    };
    wish.lines.iter().enumerate().map(price).collect()
}

/// Sum over the lines.
pub(crate) fn total(lines: &[OrderLine]) -> Result<Money, OrdersError> {
    let no_total = |reason: String| OrdersError::NoTotal { reason };
    let (first, rest) = lines.split_first().ok_or_else(|| no_total("it has no lines".to_owned()))?;
    let amount = |line: &OrderLine| line.unit_price.times(line.quantity);
    amount(first)
        .and_then(|sum| rest.iter().try_fold(sum, |sum, line| sum.plus(amount(line)?)))
        .map_err(|error| no_total(error.to_string()))
}

/// The rows of an order's lines.
pub(crate) fn line_rows(order_id: i64, lines: &[OrderLine]) -> impl Iterator<Item = LineRow> {
    (0_i64..).zip(lines).map(move |(position, line)| LineRow {
        order_id,
        position,
        product_id: line.product_id.get(),
        quantity: i64::from(line.quantity),
        unit_price_minor: line.unit_price.minor,
    })
}

/// The order of its rows; the lines in order of position.
pub(crate) fn order(row: OrderRow, lines: Vec<LineRow>) -> Result<Order, RowError> {
    let currency = Currency::try_from(row.currency)?;
    let line = |line: LineRow| {
        Ok(OrderLine {
            product_id: ProductId::try_from(line.product_id)?,
            quantity: u32::try_from(line.quantity).map_err(|_| RowError::Quantity)?,
            unit_price: Money { minor: line.unit_price_minor, currency },
        })
    };
    Ok(Order {
        id: OrderId::try_from(row.id)?,
        user_id: UserId::try_from(row.user_id)?,
        reference: row.reference,
        kind: kind(&row.kind)?,
        status: status(&row.status)?,
        lines: lines.into_iter().map(line).collect::<Result<_, RowError>>()?,
        total: Money { minor: row.total_minor, currency },
        placed_at: Timestamp::from_millis(row.placed_at_ms),
        cancelled_at: row.cancelled_at_ms.map(Timestamp::from_millis),
    })
}

/// The word for a kind in the table.
pub(crate) fn kind_word(kind: OrderKind) -> &'static str {
    match kind {
        OrderKind::Sale => "sale",
        OrderKind::Cancellation => "cancellation",
    }
}

/// The word for a status in the table.
pub(crate) fn status_word(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::Placed => "placed",
        OrderStatus::Cancelled => "cancelled",
    }
}

fn kind(word: &str) -> Result<OrderKind, RowError> {
    let kinds = [OrderKind::Sale, OrderKind::Cancellation];
    kinds.into_iter().find(|kind| kind_word(*kind) == word).ok_or(RowError::Word)
}

fn status(word: &str) -> Result<OrderStatus, RowError> {
    let statuses = [OrderStatus::Placed, OrderStatus::Cancelled];
    statuses.into_iter().find(|status| status_word(*status) == word).ok_or(RowError::Word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(quantity: u32, unit_price: Money) -> OrderLine {
        OrderLine { product_id: ProductId::try_from(1).unwrap(), quantity, unit_price }
    }

    #[test]
    fn a_total_is_the_sum_over_the_lines() {
        let lines = [line(6, Money::gbp(255)), line(1, Money::gbp(5))];
        assert_eq!(total(&lines), Ok(Money::gbp(1535)));
    }

    #[test]
    fn no_lines_mixed_currencies_and_sums_beyond_64_bits_have_no_total() {
        let euro = Money { minor: 1, currency: Currency::try_from("EUR".to_owned()).unwrap() };
        let large = line(2, Money::gbp(i64::MAX / 2 + 1));
        let nearly = line(1, Money::gbp(i64::MAX));
        for lines in
            [vec![], vec![line(1, Money::gbp(1)), line(1, euro)], vec![large], vec![nearly.clone(), nearly]]
        {
            assert!(matches!(total(&lines), Err(OrdersError::NoTotal { .. })), "{lines:?}");
        }
    }
}
