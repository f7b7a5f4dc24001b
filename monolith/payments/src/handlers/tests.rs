//! Cancelled orders, from the event heard to the event told.

use contracts::Timestamp;
use contracts::payments::PaymentStatus;
use contracts::suite::{GOOD_TOKEN, Mishap, call, method, wish};
use db::Backend;
use db::events::{EventFilter, Outbox, WaitingEvent, Which};

use super::*;
use crate::service::tests as service;

db::on_both!(fixture => [
    a_cancelled_order_is_refunded_and_the_event_tells_it,
    a_refund_that_the_provider_refuses_is_told,
    an_event_that_comes_twice_is_answered_once,
    an_event_waits_while_the_provider_is_silent,
    an_order_without_a_payment_counts_as_refunded,
]);

fn fixture(backend: Backend) -> service::Fixture {
    let mut fixture = service::fixture(backend);
    fixture.payments.outbox =
        Outbox::new(&[(PaymentRefunded::KIND, "orders"), (PaymentRefundFailed::KIND, "orders")]);
    fixture
}

fn order() -> OrderCancelled {
    OrderCancelled { order_id: wish(7, method(GOOD_TOKEN)).order_id }
}

fn cancelled() -> Envelope {
    Envelope {
        id: "event-1".to_owned(),
        kind: OrderCancelled::KIND.to_owned(),
        aggregate: order().aggregate(),
        payload: serde_json::to_value(order()).unwrap(),
        request_id: "request-1".to_owned(),
        traceparent: None,
        occurred_at: Timestamp::from_millis(0),
    }
}

impl service::Fixture {
    async fn captured(&self) {
        self.payments.authorise(&call(), wish(7, method(GOOD_TOKEN))).await.unwrap();
        self.payments.capture(&call(), order().order_id).await.unwrap();
    }

    async fn hear(&self) -> Result<(), HandleError> {
        self.payments.handle(&call(), &cancelled()).await
    }

    async fn told(&self) -> Vec<WaitingEvent> {
        let filter = EventFilter { consumer: None, which: Which::All, after: None, limit: 10 };
        self.db.read(move |conn| db::events::list(conn, &filter)).await.unwrap()
    }
}

fn kinds(told: &[WaitingEvent]) -> Vec<&str> {
    told.iter().map(|event| event.kind.as_str()).collect()
}

async fn a_cancelled_order_is_refunded_and_the_event_tells_it(fixture: service::Fixture) {
    fixture.captured().await;
    fixture.hear().await.unwrap();
    assert_eq!(fixture.status().await, PaymentStatus::Refunded);
    let told = fixture.told().await;
    assert_eq!(kinds(&told), [PaymentRefunded::KIND]);
    assert_eq!((told[0].aggregate.as_str(), &told[0].payload), ("order/7", &cancelled().payload));
}

async fn an_order_without_a_payment_counts_as_refunded(fixture: service::Fixture) {
    fixture.hear().await.unwrap();
    assert_eq!(kinds(&fixture.told().await), [PaymentRefunded::KIND]);
}

async fn an_event_that_comes_twice_is_answered_once(fixture: service::Fixture) {
    fixture.captured().await;
    fixture.hear().await.unwrap();
    fixture.hear().await.unwrap();
    assert_eq!(kinds(&fixture.told().await), [PaymentRefunded::KIND]);
}

async fn an_event_waits_while_the_provider_is_silent(fixture: service::Fixture) {
    fixture.captured().await;
    for mishap in [Mishap::Lost, Mishap::Unanswered] {
        fixture.provider.befall(mishap);
        let waiting = fixture.hear().await;
        assert!(matches!(waiting, Err(HandleError::Unavailable(_))), "{waiting:?}");
        assert!(fixture.told().await.is_empty());
    }
    fixture.hear().await.unwrap();
    assert_eq!(kinds(&fixture.told().await), [PaymentRefunded::KIND]);
}

async fn a_refund_that_the_provider_refuses_is_told(fixture: service::Fixture) {
    fixture.captured().await;
    fixture.provider.befall(Mishap::Refused);
    fixture.hear().await.unwrap();
    let told = fixture.told().await;
    assert_eq!(kinds(&told), [PaymentRefundFailed::KIND]);
    assert!(told[0].payload["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    assert_eq!(fixture.status().await, PaymentStatus::Captured);
}
