//! Facts about the shipping port.
//!
//! Invariant: each begins with a context that knows no shipment.

use super::{address, call, call_with_key, done};
use crate::shipping::{Schedule, Shipment, ShipmentStatus, Shipping, ShippingError};
use crate::{KeyReused, OrderId};

/// A shipping context without shipments.
pub trait ShippingFixture: Send + Sync {
    /// Its port.
    fn shipping(&self) -> &dyn Shipping;
}

/// One asynchronous test per fact of the shipping port, each with the fixture that the given async function makes.
#[macro_export]
macro_rules! shipping_suite {
    ($fixture:path) => {
        $crate::suite_tests!(shipping of $fixture:
            a_scheduled_shipment_can_be_tracked,
            a_shipment_goes_one_step_at_a_time,
            a_shipment_is_handed_over_then_delivered,
            a_shipment_step_is_taken_once_per_key,
            a_stop_keeps_a_later_shipment_out,
            a_stopped_shipment_stays_stopped,
            an_order_without_a_shipment_is_not_found,
            each_shipment_has_a_tracking_code_of_its_own,
            scheduling_again_returns_the_same_shipment,
            what_was_handed_over_cannot_be_stopped,
        );
    };
}

const STATUSES: [ShipmentStatus; 4] = [
    ShipmentStatus::Scheduled,
    ShipmentStatus::HandedOver,
    ShipmentStatus::Delivered,
    ShipmentStatus::Stopped,
];

fn order(id: i64) -> OrderId {
    done(OrderId::try_from(id))
}

fn wish(order_id: i64) -> Schedule {
    Schedule { order_id: order(order_id), address: Some(address("home")) }
}

async fn scheduled(shipping: &dyn Shipping, order_id: i64) -> Shipment {
    done(shipping.schedule(&call(), wish(order_id)).await)
}

fn steps(shipment: &Shipment) -> Vec<ShipmentStatus> {
    shipment.steps.iter().map(|step| step.status).collect()
}

/// What `schedule` returns is what `track` returns, with an address or without one.
pub async fn a_scheduled_shipment_can_be_tracked(fixture: &dyn ShippingFixture) {
    let shipping = fixture.shipping();
    for wish in [wish(1), Schedule { address: None, ..wish(2) }] {
        let shipment = done(shipping.schedule(&call(), wish.clone()).await);
        assert_eq!((shipment.order_id, &shipment.address), (wish.order_id, &wish.address));
        assert_eq!(
            (shipment.status, steps(&shipment)),
            (ShipmentStatus::Scheduled, vec![ShipmentStatus::Scheduled])
        );
        assert_eq!(shipping.track(&call(), wish.order_id).await, Ok(shipment));
    }
}

/// A tracking code is `BNY` and ten digits, and no two shipments share one.
pub async fn each_shipment_has_a_tracking_code_of_its_own(fixture: &dyn ShippingFixture) {
    let mut codes = Vec::new();
    for order_id in 1..=20 {
        let code = scheduled(fixture.shipping(), order_id).await.tracking_code.unwrap_or_default();
        let digits = code.strip_prefix("BNY").unwrap_or_default();
        assert!(digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{code}");
        assert!(!codes.contains(&code), "{code} came twice");
        codes.push(code);
    }
}

/// Whatever the repeat wishes for, the order has one shipment, wherever that stands.
pub async fn scheduling_again_returns_the_same_shipment(fixture: &dyn ShippingFixture) {
    let shipping = fixture.shipping();
    let first = scheduled(shipping, 1).await;
    assert_eq!(scheduled(shipping, 1).await, first);
    let elsewhere = Schedule { address: None, ..wish(1) };
    assert_eq!(shipping.schedule(&call(), elsewhere).await, Ok(first));
    let handed_over = done(shipping.advance(&call(), order(1), ShipmentStatus::HandedOver).await);
    assert_eq!(scheduled(shipping, 1).await, handed_over);
}

/// Tracking and advancing what is not there says so.
pub async fn an_order_without_a_shipment_is_not_found(fixture: &dyn ShippingFixture) {
    let (shipping, order_id) = (fixture.shipping(), order(4711));
    assert_eq!(shipping.track(&call(), order_id).await, Err(ShippingError::NotFound { order_id }));
    for to in STATUSES {
        let missing = shipping.advance(&call(), order_id, to).await;
        assert_eq!(missing, Err(ShippingError::NotFound { order_id }));
    }
}

/// The carrier may say everything twice; each step is kept once, in order.
pub async fn a_shipment_is_handed_over_then_delivered(fixture: &dyn ShippingFixture) {
    let shipping = fixture.shipping();
    let before = scheduled(shipping, 1).await;
    for (number, to) in (1..).zip(STATUSES).take(3) {
        let shipment = done(shipping.advance(&call(), order(1), to).await);
        assert_eq!(shipping.advance(&call(), order(1), to).await, Ok(shipment.clone()));
        assert_eq!((shipment.status, steps(&shipment)), (to, STATUSES.into_iter().take(number).collect()));
        assert_eq!((&shipment.tracking_code, &shipment.address), (&before.tracking_code, &before.address));
        assert_eq!(shipping.track(&call(), order(1)).await, Ok(shipment));
    }
}

/// A shipment skips no step and never goes back, and the carrier cannot stop it.
pub async fn a_shipment_goes_one_step_at_a_time(fixture: &dyn ShippingFixture) {
    use ShipmentStatus::{Delivered, HandedOver, Scheduled, Stopped};
    let shipping = fixture.shipping();
    scheduled(shipping, 1).await;
    for (step, wrong) in [
        (Scheduled, vec![Delivered, Stopped]),
        (HandedOver, vec![Scheduled, Stopped]),
        (Delivered, vec![Scheduled, HandedOver, Stopped]),
    ] {
        let before = done(shipping.advance(&call(), order(1), step).await);
        for to in wrong {
            let refused = shipping.advance(&call(), order(1), to).await;
            assert!(
                matches!(refused, Err(ShippingError::WrongStep { .. })),
                "{step:?} to {to:?}: {refused:?}"
            );
        }
        assert_eq!(shipping.track(&call(), order(1)).await, Ok(before));
    }
}

/// A stopped shipment stays stopped, and keeps its code and its address.
pub async fn a_stopped_shipment_stays_stopped(fixture: &dyn ShippingFixture) {
    let shipping = fixture.shipping();
    let before = scheduled(shipping, 1).await;
    for _ in 0..2 {
        assert_eq!(shipping.stop(&call(), order(1)).await, Ok(()));
    }
    let stopped = done(shipping.track(&call(), order(1)).await);
    assert_eq!(steps(&stopped), [ShipmentStatus::Scheduled, ShipmentStatus::Stopped]);
    assert_eq!((&stopped.tracking_code, &stopped.address), (&before.tracking_code, &before.address));
    let again = shipping.schedule(&call(), wish(1)).await;
    assert_eq!(again, Err(ShippingError::Stopped { order_id: order(1) }));
    let wrong = ShippingError::WrongStep {
        order_id: order(1),
        from: "stopped".to_owned(),
        to: "handed_over".to_owned(),
    };
    assert_eq!(shipping.advance(&call(), order(1), ShipmentStatus::HandedOver).await, Err(wrong));
    assert_eq!(shipping.track(&call(), order(1)).await, Ok(stopped));
}

/// A stop succeeds where there is no shipment, and keeps one out that comes late.
pub async fn a_stop_keeps_a_later_shipment_out(fixture: &dyn ShippingFixture) {
    let shipping = fixture.shipping();
    for _ in 0..2 {
        assert_eq!(shipping.stop(&call(), order(1)).await, Ok(()));
    }
    let late = shipping.schedule(&call(), wish(1)).await;
    assert_eq!(late, Err(ShippingError::Stopped { order_id: order(1) }));
    let tombstone = done(shipping.track(&call(), order(1)).await);
    assert_eq!((tombstone.status, &tombstone.tracking_code), (ShipmentStatus::Stopped, &None));
    assert_eq!(steps(&tombstone), [ShipmentStatus::Stopped]);
}

/// Once the carrier has it, nobody stops it.
pub async fn what_was_handed_over_cannot_be_stopped(fixture: &dyn ShippingFixture) {
    let shipping = fixture.shipping();
    scheduled(shipping, 1).await;
    for (to, from) in [(ShipmentStatus::HandedOver, "handed_over"), (ShipmentStatus::Delivered, "delivered")]
    {
        let before = done(shipping.advance(&call(), order(1), to).await);
        let (from, to) = (from.to_owned(), "stopped".to_owned());
        let refused = shipping.stop(&call(), order(1)).await;
        assert_eq!(refused, Err(ShippingError::WrongStep { order_id: order(1), from, to }));
        assert_eq!(shipping.track(&call(), order(1)).await, Ok(before));
    }
}

/// A step that comes again under its key returns its first result; another one under that key is refused.
pub async fn a_shipment_step_is_taken_once_per_key(fixture: &dyn ShippingFixture) {
    let shipping = fixture.shipping();
    scheduled(shipping, 1).await;
    let handed_over = ShipmentStatus::HandedOver;
    let first = done(shipping.advance(&call_with_key("a", "handed over"), order(1), handed_over).await);
    done(shipping.advance(&call(), order(1), ShipmentStatus::Delivered).await);
    let again = shipping.advance(&call_with_key("a", "handed over"), order(1), handed_over).await;
    assert_eq!(again, Ok(first));
    let reused =
        shipping.advance(&call_with_key("a", "delivered"), order(1), ShipmentStatus::Delivered).await;
    assert_eq!(reused, Err(ShippingError::KeyReused(KeyReused { key: "a".to_owned() })));
}
