//! The port's suite on both databases and on the fake, and what only this store can show.

mod crowd;
mod script;

use contracts::events::{DomainEvent, Envelope, EventHandler, HandleError};
use contracts::inventory::{ReservationStatus, StockReleased};
use contracts::orders::OrderCancelled;
use contracts::suite::inventory::InventoryFixture;
use contracts::suite::{FakeInventory, call};
use contracts::{FixedClock, Timestamp};
use db::events::{EventFilter, WaitingEvent, Which};
use db::testing::{Scratch, scratch};
use db::{Backend, DbError, schema};
use diesel::sql_types::BigInt;
use diesel::{QueryableByName, RunQueryDsl, sql_query};

use super::*;
use crate::SCHEMA;

const NOW: Timestamp = Timestamp::from_millis(1_291_191_960_000);

struct Fixture {
    db: Scratch,
    inventory: InventoryService,
}

fn fixture(backend: Backend) -> Fixture {
    let db = scratch(backend, &[db::events::SCHEMA, db::idempotency::SCHEMA, SCHEMA]);
    let inventory = service((*db).clone());
    Fixture { db, inventory }
}

fn service(db: Db) -> InventoryService {
    let outbox = Outbox::new(&[(StockReleased::KIND, "orders")]);
    InventoryService::new(db, Arc::new(FixedClock(NOW)), outbox)
}

impl InventoryFixture for Fixture {
    fn inventory(&self) -> &dyn Inventory {
        &self.inventory
    }

    fn now(&self) -> Timestamp {
        NOW
    }
}

mod embedded_on_sqlite {
    async fn fixture() -> super::Fixture {
        super::fixture(db::Backend::Sqlite)
    }

    contracts::inventory_suite!(fixture);
}

mod embedded_on_postgres {
    async fn fixture() -> super::Fixture {
        super::fixture(db::Backend::Postgres)
    }

    contracts::inventory_suite!(fixture);
}

struct Fake(FakeInventory);

impl InventoryFixture for Fake {
    fn inventory(&self) -> &dyn Inventory {
        &self.0
    }

    fn now(&self) -> Timestamp {
        FakeInventory::NOW
    }
}

mod fake {
    async fn fixture() -> super::Fake {
        super::Fake(contracts::suite::FakeInventory::default())
    }

    contracts::inventory_suite!(fixture);
}

fn order(id: i64) -> OrderId {
    id.try_into().unwrap()
}

fn product(id: i64) -> ProductId {
    id.try_into().unwrap()
}

fn wish(order_id: i64, lines: &[(i64, u32)]) -> Reserve {
    let lines = lines.iter().map(|(id, quantity)| (product(*id), *quantity)).collect();
    Reserve { order_id: order(order_id), lines, expires_at: NOW }
}

/// Fills one warehouse after the other with the units of product 1, 2, … that its list names.
async fn fill(inventory: &dyn Inventory, warehouses: &[&[i64]]) {
    for (number, units) in warehouses.iter().enumerate() {
        let details = WarehouseDetails { code: format!("w{number}"), name: format!("Warehouse {number}") };
        let warehouse_id = inventory.add_warehouse(&call(), details).await.unwrap().id;
        for (id, &delta) in (1..).zip(*units).filter(|(_, units)| **units > 0) {
            let reason = "delivery".to_owned();
            let delivery = Adjustment { warehouse_id, product_id: product(id), delta, reason };
            inventory.adjust(&call(), delivery).await.unwrap();
        }
    }
}

async fn levels(inventory: &dyn Inventory, of: i64) -> Vec<(i64, i64)> {
    let levels = inventory.stock(&call(), product(of)).await.unwrap();
    levels.iter().map(|level| (level.on_hand, level.reserved)).collect()
}

/// Every level is what journal and reservations say.
async fn check_books(db: &Db) {
    #[derive(QueryableByName)]
    struct Wrong {
        #[diesel(sql_type = BigInt)]
        wrong: i64,
    }
    let lines = |status| {
        format!(
            "(SELECT coalesce(sum(quantity), 0) FROM inventory_reservation_lines AS line
              JOIN inventory_reservations AS reservation ON reservation.order_id = line.order_id
              WHERE status = '{status}' AND product_id = stock.product_id AND warehouse_id = stock.warehouse_id)"
        )
    };
    let query = format!(
        "SELECT count(*) AS wrong FROM inventory_stock AS stock
         WHERE reserved <> {} OR reserved < 0 OR reserved > on_hand OR on_hand <> (
             SELECT sum(delta) FROM inventory_adjustments AS journal
             WHERE journal.product_id = stock.product_id AND journal.warehouse_id = stock.warehouse_id
         ) - {}",
        lines("held"),
        lines("confirmed")
    );
    let wrong = db.read_one(move |conn| Ok::<Wrong, DbError>(sql_query(&query).get_result(conn)?));
    assert_eq!(wrong.await.unwrap().wrong, 0, "levels that journal and reservations do not explain");
}

fn cancelled(order_id: i64) -> Envelope {
    let event = OrderCancelled { order_id: order(order_id) };
    Envelope {
        id: format!("event-{order_id}"),
        kind: OrderCancelled::KIND.to_owned(),
        aggregate: event.aggregate(),
        payload: serde_json::to_value(event).unwrap(),
        request_id: "request".to_owned(),
        traceparent: None,
        occurred_at: NOW,
    }
}

async fn published(db: &Db) -> Vec<WaitingEvent> {
    let filter = EventFilter { consumer: None, which: Which::All, after: None, limit: 10 };
    db.read(move |conn| db::events::list(conn, &filter)).await.unwrap()
}

async fn the_stock_of_a_cancelled_order_comes_back_once(fixture: Fixture) {
    let Fixture { db, inventory } = fixture;
    fill(&inventory, &[&[5]]).await;
    inventory.reserve(&call(), wish(1, &[(1, 3)])).await.unwrap();
    inventory.confirm(&call(), order(1)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(inventory.handle(&call(), &cancelled(1)).await, Ok(()));
        assert_eq!(levels(&inventory, 1).await, [(5, 0)]);
    }
    let [event] = published(&db).await.try_into().unwrap();
    assert_eq!((event.kind.as_str(), event.consumer.as_str()), (StockReleased::KIND, "orders"));
    assert_eq!(event.payload, serde_json::json!({ "order_id": 1 }));
    assert_eq!(event.request_id, call().request_id.0);
}

async fn a_cancelled_order_that_reserved_nothing_is_answered_too(fixture: Fixture) {
    let Fixture { db, inventory } = fixture;
    assert_eq!(inventory.handle(&call(), &cancelled(1)).await, Ok(()));
    let late = inventory.reserve(&call(), wish(1, &[])).await;
    assert_eq!(late, Err(InventoryError::Released { order_id: order(1) }));
    assert_eq!(published(&db).await.len(), 1);
}

async fn what_is_not_a_cancelled_order_is_rejected(fixture: Fixture) {
    let Fixture { db, inventory } = fixture;
    for wrong in [
        Envelope { kind: StockReleased::KIND.to_owned(), ..cancelled(1) },
        Envelope { payload: serde_json::json!({ "order_id": 0 }), ..cancelled(1) },
    ] {
        let rejected = inventory.handle(&call(), &wrong).await;
        assert!(matches!(rejected, Err(HandleError::Rejected { .. })), "{rejected:?}");
    }
    assert!(published(&db).await.is_empty());
    let untouched = inventory.reservation(&call(), order(1)).await;
    assert_eq!(untouched, Err(InventoryError::NoReservation { order_id: order(1) }));
}

async fn every_adjustment_stands_in_the_journal(fixture: Fixture) {
    #[derive(Debug, PartialEq, QueryableByName)]
    #[diesel(table_name = crate::schema::inventory_adjustments)]
    struct Entry {
        delta: i64,
        reason: String,
        request_id: String,
        adjusted_at_ms: i64,
    }
    let Fixture { db, inventory } = fixture;
    fill(&inventory, &[&[5]]).await;
    inventory.ensure_stock(&call(), vec![product(2)], 7).await.unwrap();
    let query = "SELECT delta, reason, request_id, adjusted_at_ms FROM inventory_adjustments ORDER BY id";
    let journal = db.read_one(move |conn| Ok::<Vec<Entry>, DbError>(sql_query(query).load(conn)?));
    let entry = |delta, reason: &str| {
        let (reason, request_id) = (reason.to_owned(), call().request_id.0);
        Entry { delta, reason, request_id, adjusted_at_ms: NOW.as_millis() }
    };
    assert_eq!(journal.await.unwrap(), [entry(5, "delivery"), entry(7, "opening stock")]);
}

async fn the_database_itself_promises_no_more_than_there_is(fixture: Fixture) {
    let Fixture { db, inventory } = fixture;
    fill(&inventory, &[&[5]]).await;
    for wrong in ["reserved = 6", "reserved = -1", "on_hand = -1"] {
        let update = format!("UPDATE inventory_stock SET {wrong}");
        let refused = db.write(move |conn| Ok::<_, DbError>(sql_query(&update).execute(conn)?)).await;
        assert!(refused.is_err(), "{wrong} was taken");
    }
}

db::on_both!(fixture => [
    a_cancelled_order_that_reserved_nothing_is_answered_too,
    every_adjustment_stands_in_the_journal,
    the_database_itself_promises_no_more_than_there_is,
    the_stock_of_a_cancelled_order_comes_back_once,
    what_is_not_a_cancelled_order_is_rejected,
]);

#[test]
fn the_schema_lists_its_tables() {
    assert_eq!(schema::tables_of(&SCHEMA).unwrap(), SCHEMA.tables);
}
