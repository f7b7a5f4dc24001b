//! The port's suite on both databases and on the fake, and what only this store can show.

use contracts::events::{DomainEvent, Envelope, EventHandler, HandleError};
use contracts::orders::OrderCancelled;
use contracts::shipping::{ShipmentStopFailed, ShipmentStopped};
use contracts::suite::shipping::ShippingFixture;
use contracts::suite::{FakeShipping, call};
use contracts::{FixedClock, Timestamp};
use db::events::{EventFilter, WaitingEvent, Which};
use db::testing::{Scratch, scratch};
use db::{Backend, schema};
use tokio::task::JoinSet;

use super::*;
use crate::SCHEMA;

const NOW: Timestamp = Timestamp::from_millis(1_291_191_960_000);

struct Fixture {
    db: Scratch,
    shipping: ShippingService,
}

fn fixture(backend: Backend) -> Fixture {
    let db = scratch(backend, &[db::events::SCHEMA, db::idempotency::SCHEMA, SCHEMA]);
    let outbox = Outbox::new(&[(ShipmentStopped::KIND, "orders"), (ShipmentStopFailed::KIND, "orders")]);
    let shipping = ShippingService::new((*db).clone(), Arc::new(FixedClock(NOW)), outbox);
    Fixture { db, shipping }
}

impl ShippingFixture for Fixture {
    fn shipping(&self) -> &dyn Shipping {
        &self.shipping
    }
}

mod embedded_on_sqlite {
    async fn fixture() -> super::Fixture {
        super::fixture(db::Backend::Sqlite)
    }

    contracts::shipping_suite!(fixture);
}

mod embedded_on_postgres {
    async fn fixture() -> super::Fixture {
        super::fixture(db::Backend::Postgres)
    }

    contracts::shipping_suite!(fixture);
}

struct Fake(FakeShipping);

impl ShippingFixture for Fake {
    fn shipping(&self) -> &dyn Shipping {
        &self.0
    }
}

mod fake {
    async fn fixture() -> super::Fake {
        super::Fake(contracts::suite::FakeShipping::default())
    }

    contracts::shipping_suite!(fixture);
}

fn order(id: i64) -> OrderId {
    id.try_into().unwrap()
}

fn wish(order_id: i64) -> Schedule {
    Schedule { order_id: order(order_id), address: None }
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

async fn status(shipping: &ShippingService, id: i64) -> ShipmentStatus {
    shipping.track(&call(), order(id)).await.unwrap().status
}

async fn the_shipment_of_a_cancelled_order_is_stopped_once(fixture: Fixture) {
    let Fixture { db, shipping } = fixture;
    shipping.schedule(&call(), wish(1)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(shipping.handle(&call(), &cancelled(1)).await, Ok(()));
        assert_eq!(status(&shipping, 1).await, ShipmentStatus::Stopped);
    }
    let [event] = published(&db).await.try_into().unwrap();
    assert_eq!((event.kind.as_str(), event.aggregate.as_str()), (ShipmentStopped::KIND, "order/1"));
    assert_eq!(event.request_id, call().request_id.0);
}

async fn a_cancelled_order_without_a_shipment_never_gets_one(fixture: Fixture) {
    let Fixture { db, shipping } = fixture;
    assert_eq!(shipping.handle(&call(), &cancelled(1)).await, Ok(()));
    let late = shipping.schedule(&call(), wish(1)).await;
    assert_eq!(late, Err(ShippingError::Stopped { order_id: order(1) }));
    assert_eq!(published(&db).await.len(), 1);
}

async fn a_shipment_that_was_handed_over_is_reported_and_left_alone(fixture: Fixture) {
    let Fixture { db, shipping } = fixture;
    shipping.schedule(&call(), wish(1)).await.unwrap();
    shipping.advance(&call(), order(1), ShipmentStatus::HandedOver).await.unwrap();
    for _ in 0..2 {
        assert_eq!(shipping.handle(&call(), &cancelled(1)).await, Ok(()));
        assert_eq!(status(&shipping, 1).await, ShipmentStatus::HandedOver);
    }
    let [event] = published(&db).await.try_into().unwrap();
    assert_eq!(event.kind, ShipmentStopFailed::KIND);
    let reason = "the shipment of order 1 is handed_over and cannot become stopped";
    assert_eq!(event.payload, serde_json::json!({ "order_id": 1, "reason": reason }));
}

async fn what_is_not_a_cancelled_order_is_rejected(fixture: Fixture) {
    let Fixture { db, shipping } = fixture;
    let wrong = Envelope { kind: ShipmentStopped::KIND.to_owned(), ..cancelled(1) };
    let rejected = shipping.handle(&call(), &wrong).await;
    assert!(matches!(rejected, Err(HandleError::Rejected { .. })), "{rejected:?}");
    assert!(published(&db).await.is_empty());
}

async fn a_stop_that_meets_its_schedule_wins(fixture: Fixture) {
    let Fixture { db: _db, shipping } = fixture;
    let calls: JoinSet<_> = (0..40_i64)
        .map(|number| {
            let (shipping, order_id) = (shipping.clone(), number / 2 + 1);
            async move {
                match number % 2 {
                    0 => shipping.schedule(&call(), wish(order_id)).await.map(drop),
                    _ => shipping.stop(&call(), order(order_id)).await,
                }
            }
        })
        .collect();
    for answer in calls.join_all().await {
        assert!(matches!(answer, Ok(()) | Err(ShippingError::Stopped { .. })), "{answer:?}");
    }
    for id in 1..=20 {
        assert_eq!(status(&shipping, id).await, ShipmentStatus::Stopped);
    }
}

async fn a_carrier_and_a_canceller_at_once_agree_on_one_end(fixture: Fixture) {
    let Fixture { db: _db, shipping } = fixture;
    let ctx = call();
    for id in 1..=20 {
        shipping.schedule(&ctx, wish(id)).await.unwrap();
        let (handed_over, stopped) = tokio::join!(
            shipping.advance(&ctx, order(id), ShipmentStatus::HandedOver),
            shipping.stop(&ctx, order(id)),
        );
        let end = if handed_over.is_ok() { ShipmentStatus::HandedOver } else { ShipmentStatus::Stopped };
        assert_ne!(handed_over.is_ok(), stopped.is_ok());
        assert_eq!(status(&shipping, id).await, end);
    }
}

db::on_both!(fixture => [
    a_cancelled_order_without_a_shipment_never_gets_one,
    a_carrier_and_a_canceller_at_once_agree_on_one_end,
    a_shipment_that_was_handed_over_is_reported_and_left_alone,
    a_stop_that_meets_its_schedule_wins,
    the_shipment_of_a_cancelled_order_is_stopped_once,
    what_is_not_a_cancelled_order_is_rejected,
]);

#[test]
fn the_schema_lists_its_tables() {
    assert_eq!(schema::tables_of(&SCHEMA).unwrap(), SCHEMA.tables);
}
