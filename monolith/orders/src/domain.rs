//! What makes an order: prices, totals, and the life that it leads.
//!
//! Invariant: an order has at least one line, one currency, and a total that is the sum of its lines.

mod life;

use std::collections::HashMap;

use contracts::catalog::Product;
use contracts::orders::{Order, OrderKind, OrderLine, OrderStatus, OrdersError, PlaceOrder};
use contracts::payments::PaymentMethod;
use contracts::users::Address;
use contracts::{CartId, Money, OrderId, ProductId, Timestamp, UserId};

pub(crate) use life::{Command, Life, Next, Part, Refusal};

/// An order that can be placed: all that has to be asked of others was asked.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) user_id: UserId,
    pub(crate) lines: Vec<OrderLine>,
    pub(crate) total: Money,
    pub(crate) payment_method: PaymentMethod,
    pub(crate) ship_to: Option<Address>,
    pub(crate) cart_id: Option<CartId>,
}

impl Draft {
    /// A wish at today's prices, which goes to the user's first address unless it says where.
    pub(crate) fn of(
        wish: PlaceOrder,
        addresses: Vec<Address>,
        products: &[Product],
    ) -> Result<Self, OrdersError> {
        let lines = priced(&wish.lines, products)?;
        Ok(Self {
            user_id: wish.user_id,
            total: total(&lines)?,
            lines,
            payment_method: wish.payment_method,
            ship_to: wish.ship_to.or_else(|| addresses.into_iter().next()),
            cart_id: None,
        })
    }

    /// The order that it becomes.
    pub(crate) fn placed(self, id: OrderId, now: Timestamp) -> Order {
        Order {
            id,
            user_id: self.user_id,
            reference: None,
            kind: OrderKind::Sale,
            status: OrderStatus::Pending,
            lines: self.lines,
            total: self.total,
            placed_at: now,
            confirmed_at: None,
            cancelled_at: None,
            rejected_because: None,
            payment_method: Some(self.payment_method.kind().to_owned()),
            ship_to: self.ship_to,
            cart_id: self.cart_id,
            cancellation: None,
        }
    }
}

fn priced(wishes: &[(ProductId, u32)], products: &[Product]) -> Result<Vec<OrderLine>, OrdersError> {
    let prices: HashMap<ProductId, Money> =
        products.iter().map(|product| (product.id, product.details.price)).collect();
    let price = |(line, (id, quantity)): (usize, &(ProductId, u32))| match prices.get(id) {
        Some(price) => Ok(OrderLine { product_id: *id, quantity: *quantity, unit_price: *price }),
        None => Err(OrdersError::NoSuchProduct { id: *id, line }),
    };
    wishes.iter().enumerate().map(price).collect()
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

#[cfg(test)]
mod tests {
    use contracts::Currency;

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
