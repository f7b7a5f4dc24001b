//! The steps of the schema, over rows that older programs wrote.

use contracts::orders::{CancellationPart, ImportOrder, OrderKind, OrderLine, OrderStatus, Orders};
use contracts::suite::call;
use contracts::{Money, OrderId, ProductId, Timestamp, UserId};
use db::schema::{Rows, apply, revert, tables_of};
use db::testing::scratch;
use db::{Backend, DbError, events, idempotency, saga};
use diesel::connection::SimpleConnection;
use diesel::{QueryDsl, RunQueryDsl};

use super::*;
use crate::service::tests::{Side, side_on};

/// The context's schema as it was before orders had a life.
const BEFORE: SchemaSource = SchemaSource {
    context: contracts::orders::CONTEXT,
    migrations: &[db::migration!("0001_orders")],
    tables: &["orders_lines", "orders_orders"],
};

/// Orders 1 (placed) and 2 (cancelled), and an order 3 that is gone.
const ROWS: &str = "
    INSERT INTO orders_orders (user_id, reference, kind, status, currency, total_minor, placed_at_ms, cancelled_at_ms) VALUES
        (77, '536365', 'sale', 'placed', 'GBP', 255, 1000, NULL),
        (77, NULL, 'sale', 'cancelled', 'GBP', 255, 2000, 3000),
        (77, NULL, 'sale', 'placed', 'GBP', 255, 4000, NULL);
    INSERT INTO orders_lines (order_id, position, product_id, quantity, unit_price_minor) VALUES
        (1, 0, 5, 1, 255), (2, 0, 5, 1, 255);
    DELETE FROM orders_orders WHERE user_id = 77 AND placed_at_ms = 4000;";

fn before(backend: Backend) -> Side {
    let db = scratch(backend, &[idempotency::SCHEMA, events::SCHEMA, saga::SCHEMA, BEFORE]);
    db.write_blocking(|conn| Ok::<_, DbError>(conn.batch_execute(ROWS)?)).unwrap();
    side_on(db)
}

async fn orders_of_an_older_program_are_kept_with_their_ids_and_get_a_history(side: Side) {
    apply(&side.db, &[SCHEMA]).unwrap();
    let user_id = UserId::try_from(77).unwrap();
    let orders = side.service.list(&call(), user_id, None, 9).await.unwrap().items;
    let statuses: Vec<_> = orders.iter().map(|order| (order.id.get(), order.status)).collect();
    assert_eq!(statuses, [(1, OrderStatus::Confirmed), (2, OrderStatus::Cancelled)]);
    assert_eq!(orders[0].confirmed_at, Some(Timestamp::from_millis(1000)));
    assert_eq!(orders[0].reference.as_deref(), Some("536365"));
    assert_eq!(orders[1].cancellation.as_ref().unwrap().payment, CancellationPart::Done);
    assert_eq!(side.history(orders[0].id).await, [(OrderStatus::Confirmed, None)]);
    let both = [(OrderStatus::Confirmed, None), (OrderStatus::Cancelled, None)];
    assert_eq!(side.history(orders[1].id).await, both);

    let line =
        OrderLine { product_id: ProductId::try_from(5).unwrap(), quantity: 1, unit_price: Money::gbp(255) };
    let (reference, placed_at) = ("536366".to_owned(), Timestamp::from_millis(5000));
    let next = ImportOrder { reference, user_id, kind: OrderKind::Sale, lines: vec![line], placed_at };
    side.service.import(&call(), vec![next]).await.unwrap();
    assert_eq!(side.order(OrderId::try_from(4).unwrap()).await.placed_at, placed_at);
}

async fn the_steps_can_be_taken_back(side: Side) {
    apply(&side.db, &[SCHEMA]).unwrap();
    revert(&side.db, &[SCHEMA], 2, Rows::Discard).unwrap();
    type Left = (i64, String, Option<i64>);
    let left = side.db.write_blocking(|conn| {
        conn.batch_execute(
            "INSERT INTO orders_orders (user_id, kind, status, currency, total_minor, placed_at_ms)
             VALUES (77, 'sale', 'placed', 'GBP', 255, 5000)",
        )?;
        let columns = (orders_orders::id, orders_orders::status, orders_orders::cancelled_at_ms);
        Ok::<_, DbError>(orders_orders::table.select(columns).order(orders_orders::id).load::<Left>(conn)?)
    });
    let placed = |id: i64| (id, "placed".to_owned(), None);
    assert_eq!(left.unwrap(), [placed(1), (2, "cancelled".to_owned(), Some(3000)), placed(4)]);
    apply(&side.db, &[SCHEMA]).unwrap();
}

db::on_both!(before => [
    orders_of_an_older_program_are_kept_with_their_ids_and_get_a_history,
    the_steps_can_be_taken_back,
]);

#[test]
fn the_schema_lists_its_tables() {
    assert_eq!(tables_of(&SCHEMA).unwrap(), SCHEMA.tables);
}
