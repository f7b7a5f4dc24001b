//! Orders that were placed elsewhere.
//!
//! Invariant: every statement is one that is prepared once per connection, and no order costs more of them than its rows.

use contracts::orders::{ImportOrder, Imported, OrderStatus};
use db::Conn;
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, RunQueryDsl, SelectableHelper};

use super::rows::{NewOrderRow, OrderRow, kind_word, status_word};
use super::{StoreError, add, with_lines};
use crate::domain;
use crate::schema::orders_orders;

pub(crate) fn import(conn: &mut Conn, batch: &[ImportOrder]) -> Result<Vec<Imported>, StoreError> {
    batch.iter().map(|order| import_one(conn, order)).collect()
}

fn import_one(conn: &mut Conn, order: &ImportOrder) -> Result<Imported, StoreError> {
    let total = domain::total(&order.lines)?;
    let found: Option<OrderRow> = orders_orders::table
        .filter(orders_orders::reference.eq(&order.reference))
        .select(OrderRow::as_select())
        // Not `first`, which SQLite would plan anew for every order of the batch: see `db::Db`.
        .get_result(conn)
        .optional()?;
    let Some(found) = found else {
        let row = NewOrderRow {
            user_id: order.user_id.get(),
            reference: Some(&order.reference),
            kind: kind_word(order.kind),
            status: status_word(OrderStatus::Confirmed),
            currency: total.currency.code(),
            total_minor: total.minor,
            placed_at_ms: order.placed_at.as_millis(),
            confirmed_at_ms: Some(order.placed_at.as_millis()),
            payment_method: None,
            ship_to: None,
            cart_id: None,
        };
        add(conn, &row, &order.lines)?;
        return Ok(Imported::Added);
    };
    let stored = with_lines(conn, found)?;
    // Whether it was called off since is no matter of the document.
    let is_same = (stored.user_id, stored.kind, stored.placed_at)
        == (order.user_id, order.kind, order.placed_at)
        && stored.lines == order.lines;
    Ok(if is_same { Imported::Unchanged } else { Imported::Conflicting })
}
