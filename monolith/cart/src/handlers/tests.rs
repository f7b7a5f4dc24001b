//! What comes of the events.

use contracts::cart::{Cart, CartStatus, Carts, PutItem};
use contracts::suite::call;
use contracts::{CartId, OrderId, ProductId, Timestamp};
use diesel::{QueryDsl, RunQueryDsl};

use super::*;
use crate::schema::cart_carts;
use crate::service::tests::{Side, side};
use crate::store::StoreError;

fn event(id: &str, cart_id: &CartId, order: i64) -> Envelope {
    let order_id = OrderId::try_from(order).unwrap();
    // More of everything than any cart here holds.
    let items = (1..10).map(|id| (ProductId::try_from(id).unwrap(), 1_000)).collect();
    envelope(id, CartCheckedOut { cart_id: cart_id.clone(), order_id, items })
}

fn envelope(id: &str, event: CartCheckedOut) -> Envelope {
    Envelope {
        id: id.to_owned(),
        kind: CartCheckedOut::KIND.to_owned(),
        aggregate: event.aggregate(),
        payload: serde_json::to_value(event).unwrap(),
        request_id: "test".to_owned(),
        traceparent: None,
        occurred_at: Timestamp::from_millis(0),
    }
}

async fn filled(side: &Side) -> Cart {
    let ann = side.user("ann").await;
    let cart = side.service.open(&call(), Some(ann)).await.unwrap();
    let item = PutItem { product_id: side.product("A1").await, quantity: 2 };
    side.service.add(&call(), cart.id, item, None).await.unwrap()
}

async fn a_cart_that_became_an_order_is_closed_and_keeps_its_items(side: Side) {
    let before = filled(&side).await;
    side.service.handle(&call(), &event("e1", &before.id, 7)).await.unwrap();
    let after = side.service.get(&call(), before.id.clone()).await.unwrap();
    assert_eq!((after.status, after.order_id), (CartStatus::CheckedOut, OrderId::try_from(7).ok()));
    assert_eq!((&after.items, after.version), (&before.items, before.version + 1));
    let closed = side.service.take_out(&call(), before.id.clone(), before.items[0].product_id, None).await;
    assert_eq!(closed, Err(CartError::Closed { id: before.id.clone() }));
    let next = side.service.open(&call(), before.user_id).await.unwrap();
    assert_ne!(next.id, before.id);
}

async fn what_was_put_in_since_is_in_the_next_cart(side: Side) {
    let ordered = filled(&side).await;
    let (id, first) = (ordered.id.clone(), ordered.items[0].clone());
    let second = PutItem { product_id: side.product("B2").await, quantity: 3 };
    let more = PutItem { product_id: first.product_id, quantity: 5 };
    for item in [more, second] {
        side.service.add(&call(), id.clone(), item, None).await.unwrap();
    }
    let items = vec![(first.product_id, first.quantity)];
    let heard = CartCheckedOut { cart_id: id.clone(), order_id: OrderId::try_from(7).unwrap(), items };
    for _ in 0..2 {
        side.service.handle(&call(), &envelope("e1", heard.clone())).await.unwrap();
    }
    let next = side.service.open(&call(), ordered.user_id).await.unwrap();
    assert_ne!(next.id, id);
    let units: Vec<_> = next.items.iter().map(|item| (item.product_id, item.quantity)).collect();
    assert_eq!(units, [(first.product_id, 5), (second.product_id, 3)]);
    let closed = side.service.get(&call(), id).await.unwrap();
    assert_eq!((closed.status, &closed.items), (CartStatus::CheckedOut, &ordered.items));
}

async fn nothing_left_begins_no_cart(side: Side) {
    let cart = filled(&side).await;
    side.service.handle(&call(), &event("e1", &cart.id, 7)).await.unwrap();
    let carts = side
        .db
        .read_blocking(|conn| cart_carts::table.count().get_result::<i64>(conn).map_err(StoreError::from))
        .unwrap();
    assert_eq!(carts, 1);
}

async fn hearing_it_again_changes_nothing(side: Side) {
    let cart = filled(&side).await;
    side.service.handle(&call(), &event("e1", &cart.id, 7)).await.unwrap();
    let closed = side.service.get(&call(), cart.id.clone()).await.unwrap();
    // The same event, and another one that says the same, as after a purge of the inbox.
    for id in ["e1", "e2"] {
        side.service.handle(&call(), &event(id, &cart.id, 7)).await.unwrap();
        assert_eq!(side.service.get(&call(), cart.id.clone()).await.unwrap(), closed);
    }
}

async fn a_merged_cart_stays_merged(side: Side) {
    let theirs = filled(&side).await;
    let user_id = theirs.user_id.unwrap();
    let merged = side.service.open(&call(), None).await.unwrap();
    side.service.assign(&call(), merged.id.clone(), user_id).await.unwrap();
    side.service.handle(&call(), &event("e1", &merged.id, 7)).await.unwrap();
    assert_eq!(side.service.get(&call(), merged.id).await.unwrap().status, CartStatus::Merged);
    assert_eq!(side.service.get(&call(), theirs.id.clone()).await.unwrap(), theirs);
}

async fn what_cannot_be_is_left_for_an_operator(side: Side) {
    let cart = filled(&side).await;
    side.service.handle(&call(), &event("e1", &cart.id, 7)).await.unwrap();
    let malformed = Envelope { payload: serde_json::json!({}), ..event("e2", &cart.id, 7) };
    let unknown = event("e3", &CartId::from_random(1), 7);
    for wrong in [malformed, unknown, event("e4", &cart.id, 8)] {
        let refused = side.service.handle(&call(), &wrong).await;
        assert!(matches!(refused, Err(HandleError::Rejected { .. })), "{refused:?}");
    }
}

async fn a_cart_of_a_merge_that_was_checked_out_is_still_what_the_merge_returns(side: Side) {
    let theirs = filled(&side).await;
    let user_id = theirs.user_id.unwrap();
    let merged = side.service.open(&call(), None).await.unwrap();
    side.service.assign(&call(), merged.id.clone(), user_id).await.unwrap();
    side.service.handle(&call(), &event("e1", &theirs.id, 7)).await.unwrap();
    let again = side.service.assign(&call(), merged.id, user_id).await.unwrap();
    assert_eq!((again.id, again.status), (theirs.id, CartStatus::CheckedOut));
}

db::on_both!(side => [
    a_cart_of_a_merge_that_was_checked_out_is_still_what_the_merge_returns,
    a_cart_that_became_an_order_is_closed_and_keeps_its_items,
    a_merged_cart_stays_merged,
    hearing_it_again_changes_nothing,
    nothing_left_begins_no_cart,
    what_was_put_in_since_is_in_the_next_cart,
    what_cannot_be_is_left_for_an_operator,
]);
