//! What comes of the answers to a cancellation.

use contracts::orders::{Order, OrderStatus, Orders};
use contracts::payments::PaymentMethod;
use contracts::suite::call;

use super::*;
use crate::service::tests::{Side, envelope, side};

/// An order that was confirmed and called off.
async fn cancelling(side: &Side) -> Order {
    let order = side.placed(PaymentMethod::account()).await;
    side.service.tell(&call(), order.id, Command::Confirm).await.unwrap();
    side.service.cancel(&call(), order.id).await.unwrap()
}

/// The answers of a cancellation in which all went well.
fn answers(order_id: OrderId) -> [Envelope; 3] {
    [
        envelope("stock", &StockReleased { order_id }),
        envelope("payment", &PaymentRefunded { order_id }),
        envelope("shipment", &ShipmentStopped { order_id }),
    ]
}

async fn all_three_answers_end_the_cancellation_in_either_order(side: Side) {
    let first = cancelling(&side).await;
    let user_id = first.user_id;
    let wish = contracts::orders::PlaceOrder {
        user_id,
        lines: vec![(first.lines[0].product_id, 1)],
        payment_method: PaymentMethod::account(),
        ship_to: None,
    };
    let second = side.service.place(&call(), wish).await.unwrap();
    side.service.tell(&call(), second.id, Command::Confirm).await.unwrap();
    side.service.cancel(&call(), second.id).await.unwrap();
    let mut backwards = answers(second.id);
    backwards.reverse();
    for (order, answers) in [(first.id, answers(first.id)), (second.id, backwards)] {
        for answer in answers {
            assert_eq!(side.order(order).await.status, OrderStatus::Cancelling);
            let own = Envelope { id: format!("{order} {}", answer.id), ..answer };
            side.service.handle(&call(), &own).await.unwrap();
        }
        let order = side.order(order).await;
        assert_eq!(order.status, OrderStatus::Cancelled);
        let cancellation = order.cancellation.unwrap();
        let parts = [cancellation.stock, cancellation.payment, cancellation.shipment];
        assert_eq!(parts, [CancellationPart::Done, CancellationPart::Done, CancellationPart::Done]);
        assert_eq!(side.history(order.id).await.last(), Some(&(OrderStatus::Cancelled, None)));
    }
}

async fn an_answer_that_comes_again_or_late_changes_nothing(side: Side) {
    let order = cancelling(&side).await;
    let [stock, payment, shipment] = answers(order.id);
    side.service.handle(&call(), &stock).await.unwrap();
    let once = side.order(order.id).await;
    // The same event, and another one that says the same, as after a purge of the inbox.
    for again in [stock.clone(), Envelope { id: "again".to_owned(), ..stock }] {
        side.service.handle(&call(), &again).await.unwrap();
        assert_eq!(side.order(order.id).await, once);
    }
    side.service.handle(&call(), &payment).await.unwrap();
    side.service.handle(&call(), &shipment).await.unwrap();
    let ended = side.order(order.id).await;
    let reason = "too late".to_owned();
    let late = envelope("late", &PaymentRefundFailed { order_id: order.id, reason });
    side.service.handle(&call(), &late).await.unwrap();
    assert_eq!(side.order(order.id).await, ended);
    assert_eq!(side.service.cancel(&call(), order.id).await, Ok(ended));
}

async fn a_part_that_could_not_be_undone_makes_the_cancellation_fail(side: Side) {
    let order = cancelling(&side).await;
    let order_id = order.id;
    let gone = ShipmentStopFailed { order_id, reason: "it was handed over".to_owned() };
    let kept = PaymentRefundFailed { order_id, reason: "the card is closed".to_owned() };
    for event in [
        envelope("shipment", &gone),
        envelope("payment", &kept),
        envelope("stock", &StockReleased { order_id }),
    ] {
        side.service.handle(&call(), &event).await.unwrap();
    }
    let failed = side.order(order_id).await;
    assert_eq!(failed.status, OrderStatus::CancelFailed);
    let cancellation = failed.cancellation.unwrap();
    assert_eq!(cancellation.stock, CancellationPart::Done);
    assert_eq!(cancellation.shipment, CancellationPart::Failed { reason: gone.reason });
    let note = "the card is closed; it was handed over".to_owned();
    assert_eq!(side.history(order_id).await.last(), Some(&(OrderStatus::CancelFailed, Some(note))));
}

async fn two_processes_that_hear_the_same_events_at_once_end_where_one_does(side: Side) {
    let order = cancelling(&side).await;
    let other = side.other_process();
    let at_once: Vec<_> = answers(order.id)
        .into_iter()
        .flat_map(|event| [(side.service.clone(), event.clone()), (other.clone(), event)])
        .map(|(service, event)| tokio::spawn(async move { service.handle(&call(), &event).await }))
        .collect();
    for handled in at_once {
        handled.await.unwrap().unwrap();
    }
    assert_eq!(side.order(order.id).await.status, OrderStatus::Cancelled);
    let steps = side.history(order.id).await;
    assert_eq!(steps.iter().filter(|(status, _)| *status == OrderStatus::Cancelled).count(), 1, "{steps:?}");
}

async fn what_cannot_be_is_left_for_an_operator(side: Side) {
    let order_id = OrderId::try_from(4711).unwrap();
    let unknown = envelope("e1", &StockReleased { order_id });
    let malformed =
        Envelope { payload: serde_json::json!({}), ..envelope("e2", &PaymentRefunded { order_id }) };
    let strange = Envelope { kind: "weather.Rain".to_owned(), ..unknown.clone() };
    for event in [unknown, malformed, strange] {
        let refused = side.service.handle(&call(), &event).await;
        assert!(matches!(refused, Err(HandleError::Rejected { .. })), "{refused:?}");
    }
}

db::on_both!(side => [
    a_part_that_could_not_be_undone_makes_the_cancellation_fail,
    all_three_answers_end_the_cancellation_in_either_order,
    an_answer_that_comes_again_or_late_changes_nothing,
    two_processes_that_hear_the_same_events_at_once_end_where_one_does,
    what_cannot_be_is_left_for_an_operator,
]);
