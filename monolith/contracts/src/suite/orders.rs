//! Facts about the orders port, as far as they show before any checkout has gone on.
//!
//! Invariant: each begins without orders; users, products and carts are made through their ports, as anybody would.

use super::{GOOD_TOKEN, call, call_with_key, done, method, mug, person};
use crate::cart::{CartError, Carts, PutItem};
use crate::catalog::{Catalog, Product, ProductDetails};
use crate::orders::{
    Cancellation, CancellationPart, CheckOut, HistoryEntry, ImportOrder, Imported, Order, OrderKind,
    OrderLine, OrderStatus, Orders, OrdersError, PlaceOrder,
};
use crate::payments::PaymentMethod;
use crate::users::{User, Users};
use crate::{CartId, KeyReused, Money, OrderId, ProductId, Timestamp, UserId};

/// An orders context without orders, and the contexts that it asks; their ports may be fakes. No checkout goes on by itself.
pub trait OrdersFixture: Send + Sync {
    /// Its port.
    fn orders(&self) -> &dyn Orders;
    /// The users that it asks for.
    fn users(&self) -> &dyn Users;
    /// The catalog that it asks for prices.
    fn catalog(&self) -> &dyn Catalog;
    /// The carts that it asks for.
    fn carts(&self) -> &dyn Carts;
}

/// One asynchronous test per fact of the orders port, each with the fixture that the given async function makes.
#[macro_export]
macro_rules! orders_suite {
    ($fixture:path) => {
        $crate::suite_tests!(orders of $fixture:
            a_cart_becomes_one_order,
            a_cart_that_cannot_be_sold_is_refused,
            a_credit_note_cannot_be_called_off,
            a_document_with_other_lines_is_conflicting_and_left_as_it_was,
            a_history_is_walked_page_by_page,
            a_key_repeats_its_command_and_no_other,
            a_listing_walks_one_users_orders,
            a_pending_order_is_called_off_once,
            a_placed_order_is_pending_at_the_prices_of_the_moment,
            an_imported_order_is_confirmed_and_can_be_called_off,
            an_order_goes_where_its_buyer_says_or_to_their_first_address,
            an_unknown_order_is_not_found,
            importing_twice_changes_nothing,
            one_order_without_a_total_stores_none_of_its_batch,
            what_the_other_contexts_do_not_know_is_refused,
        );
    };
}

async fn user(fixture: &dyn OrdersFixture, name: &str) -> User {
    done(fixture.users().create(&call(), person(name, &format!("{name}@example.com"))).await)
}

async fn product(fixture: &dyn OrdersFixture, sku: &str, pence: i64) -> Product {
    let details = ProductDetails { price: Money::gbp(pence), ..mug(sku) };
    done(fixture.catalog().create(&call(), details).await)
}

fn wish(user_id: UserId, lines: &[(ProductId, u32)]) -> PlaceOrder {
    PlaceOrder { user_id, lines: lines.to_vec(), payment_method: PaymentMethod::account(), ship_to: None }
}

async fn placed(fixture: &dyn OrdersFixture, user_id: UserId, lines: &[(ProductId, u32)]) -> Order {
    done(fixture.orders().place(&call(), wish(user_id, lines)).await)
}

async fn history(fixture: &dyn OrdersFixture, id: OrderId) -> Vec<(i64, OrderStatus)> {
    let page = done(fixture.orders().history(&call(), id, None, 9).await);
    page.items.iter().map(|entry| (entry.position, entry.status)).collect()
}

/// An open cart of a user with these items.
async fn cart(fixture: &dyn OrdersFixture, user_id: Option<UserId>, items: &[(ProductId, u32)]) -> CartId {
    let id = done(fixture.carts().open(&call(), user_id).await).id;
    for (product_id, quantity) in items.iter().copied() {
        done(fixture.carts().add(&call(), id.clone(), PutItem { product_id, quantity }, None).await);
    }
    id
}

fn check_out(cart_id: &CartId, expected_total: Option<Money>) -> CheckOut {
    let payment_method = method(GOOD_TOKEN);
    CheckOut { cart_id: cart_id.clone(), payment_method, ship_to: None, expected_total }
}

fn invoice(reference: &str, user_id: i64, quantity: u32) -> ImportOrder {
    let product_id = done(ProductId::try_from(5));
    ImportOrder {
        reference: reference.to_owned(),
        user_id: done(UserId::try_from(user_id)),
        kind: OrderKind::Sale,
        lines: vec![
            OrderLine { product_id, quantity, unit_price: Money::gbp(255) },
            OrderLine { product_id, quantity: 1, unit_price: Money::gbp(199) },
        ],
        placed_at: Timestamp::from_millis(1_000),
    }
}

async fn orders_of(fixture: &dyn OrdersFixture, user_id: i64) -> Vec<Order> {
    done(fixture.orders().list(&call(), done(UserId::try_from(user_id)), None, 9).await).items
}

fn all_waiting() -> Option<Cancellation> {
    let waiting = CancellationPart::Waiting;
    Some(Cancellation { stock: waiting.clone(), payment: waiting.clone(), shipment: waiting })
}

/// What `place` returns is what `get` returns. A later price is no matter of the order, and the token is not in it.
pub async fn a_placed_order_is_pending_at_the_prices_of_the_moment(fixture: &dyn OrdersFixture) {
    let ann = user(fixture, "ann").await;
    let (cup, pot) = (product(fixture, "cup", 300).await, product(fixture, "pot", 1999).await);
    let lines = [(pot.id, 2), (cup.id, 1), (pot.id, 1)];
    let with_token = PlaceOrder { payment_method: method(GOOD_TOKEN), ..wish(ann.id, &lines) };
    let order = done(fixture.orders().place(&call(), with_token).await);
    let dearer = ProductDetails { price: Money::gbp(9999), ..pot.details };
    done(fixture.catalog().update(&call(), pot.id, dearer, None).await);

    let there: Vec<_> =
        order.lines.iter().map(|line| (line.product_id, line.quantity, line.unit_price.minor)).collect();
    assert_eq!(there, [(pot.id, 2, 1999), (cup.id, 1, 300), (pot.id, 1, 1999)]);
    assert_eq!((order.user_id, order.total), (ann.id, Money::gbp(3 * 1999 + 300)));
    assert_eq!((order.kind, order.status), (OrderKind::Sale, OrderStatus::Pending));
    assert_eq!((order.confirmed_at, order.cancelled_at, &order.cancellation), (None, None, &None));
    assert_eq!(
        (order.payment_method.as_deref(), &order.reference, &order.cart_id),
        (Some("card"), &None, &None)
    );
    assert!(!format!("{order:?}").contains(GOOD_TOKEN));
    assert_eq!(fixture.orders().get(&call(), order.id).await.as_ref(), Ok(&order));
    let begun = HistoryEntry { position: 1, status: OrderStatus::Pending, at: order.placed_at, note: None };
    assert_eq!(done(fixture.orders().history(&call(), order.id, None, 9).await).items, [begun]);
}

/// Who says nothing gets it home; who has no address collects it.
pub async fn an_order_goes_where_its_buyer_says_or_to_their_first_address(fixture: &dyn OrdersFixture) {
    let (ann, cup) = (user(fixture, "ann").await, product(fixture, "cup", 300).await);
    let [home] = ann.details.addresses.as_slice() else { panic!("one address was given: {ann:?}") };
    assert_eq!(placed(fixture, ann.id, &[(cup.id, 1)]).await.ship_to.as_ref(), Some(home));

    let mut elsewhere = home.clone();
    elsewhere.label = "Büro \"2\"".to_owned();
    let told = PlaceOrder { ship_to: Some(elsewhere.clone()), ..wish(ann.id, &[(cup.id, 1)]) };
    let order = done(fixture.orders().place(&call(), told).await);
    assert_eq!(order.ship_to, Some(elsewhere));
    assert_eq!(fixture.orders().get(&call(), order.id).await, Ok(order));

    let mut nowhere = person("bob", "bob@example.com");
    nowhere.addresses.clear();
    let bob = done(fixture.users().create(&call(), nowhere).await);
    assert_eq!(placed(fixture, bob.id, &[(cup.id, 1)]).await.ship_to, None);
}

/// Neither a user nor a product can be made up, and nothing is stored.
pub async fn what_the_other_contexts_do_not_know_is_refused(fixture: &dyn OrdersFixture) {
    let (ann, cup) = (user(fixture, "ann").await, product(fixture, "cup", 300).await);
    let (no_user, no_product) = (done(UserId::try_from(4711)), done(ProductId::try_from(4711)));
    let refused = fixture.orders().place(&call(), wish(no_user, &[(cup.id, 1)])).await;
    assert_eq!(refused, Err(OrdersError::NoSuchUser { id: no_user }));
    let refused = fixture.orders().place(&call(), wish(ann.id, &[(cup.id, 1), (no_product, 1)])).await;
    assert_eq!(refused, Err(OrdersError::NoSuchProduct { id: no_product, line: 1 }));
    assert_eq!(orders_of(fixture, ann.id.get()).await, []);
}

/// Every command that names an order, and every read.
pub async fn an_unknown_order_is_not_found(fixture: &dyn OrdersFixture) {
    let id = done(OrderId::try_from(4711));
    let not_found = OrdersError::NotFound { id };
    assert_eq!(fixture.orders().get(&call(), id).await.as_ref(), Err(&not_found));
    assert_eq!(fixture.orders().cancel(&call(), id).await.as_ref(), Err(&not_found));
    assert_eq!(fixture.orders().history(&call(), id, None, 9).await.as_ref(), Err(&not_found));
}

/// It stays pending until its checkout notices, and its history tells of it once.
pub async fn a_pending_order_is_called_off_once(fixture: &dyn OrdersFixture) {
    let (ann, cup) = (user(fixture, "ann").await, product(fixture, "cup", 300).await);
    let order = placed(fixture, ann.id, &[(cup.id, 1)]).await;
    let called_off = done(fixture.orders().cancel(&call(), order.id).await);
    assert_eq!((called_off.status, called_off.cancelled_at.is_some()), (OrderStatus::Pending, true));
    assert_eq!(called_off.cancellation, all_waiting());
    assert_eq!(fixture.orders().cancel(&call(), order.id).await.as_ref(), Ok(&called_off));
    assert_eq!(fixture.orders().get(&call(), order.id).await, Ok(called_off));
    let pending = OrderStatus::Pending;
    assert_eq!(history(fixture, order.id).await, [(1, pending), (2, pending)]);
}

/// A key returns the result that it had, and is not to be used for anything else. Each command has keys of its own.
pub async fn a_key_repeats_its_command_and_no_other(fixture: &dyn OrdersFixture) {
    let (ann, cup) = (user(fixture, "ann").await, product(fixture, "cup", 300).await);
    let wish = wish(ann.id, &[(cup.id, 1)]);
    let first = done(fixture.orders().place(&call_with_key("k", "one"), wish.clone()).await);
    let called_off = done(fixture.orders().cancel(&call_with_key("c", "off"), first.id).await);
    done(fixture.users().delete(&call(), ann.id, None).await);
    assert_eq!(fixture.orders().place(&call_with_key("k", "one"), wish.clone()).await, Ok(first.clone()));
    assert_eq!(fixture.orders().cancel(&call_with_key("c", "off"), first.id).await, Ok(called_off));
    let reused = OrdersError::KeyReused(KeyReused { key: "k".to_owned() });
    assert_eq!(fixture.orders().place(&call_with_key("k", "two"), wish).await.as_ref(), Err(&reused));
    assert_eq!(fixture.orders().cancel(&call_with_key("k", "one"), first.id).await, Err(reused));
    assert_eq!(orders_of(fixture, ann.id.get()).await.len(), 1);
}

/// At the prices of the moment, whatever the cart has seen; a second checkout of the cart returns that order, under any key.
pub async fn a_cart_becomes_one_order(fixture: &dyn OrdersFixture) {
    let (ann, cup) = (user(fixture, "ann").await, product(fixture, "cup", 300).await);
    let pot = product(fixture, "pot", 1999).await;
    let id = cart(fixture, Some(ann.id), &[(pot.id, 2), (cup.id, 1)]).await;
    let cheaper = ProductDetails { price: Money::gbp(1000), ..pot.details };
    done(fixture.catalog().update(&call(), pot.id, cheaper, None).await);

    let order = done(fixture.orders().check_out(&call(), check_out(&id, Some(Money::gbp(2300)))).await);
    assert_eq!((order.user_id, order.total), (ann.id, Money::gbp(2300)));
    assert_eq!((order.status, order.cart_id.as_ref()), (OrderStatus::Pending, Some(&id)));
    for ctx in [call(), call_with_key("k", "one"), call_with_key("k", "one")] {
        let again = fixture.orders().check_out(&ctx, check_out(&id, None)).await;
        assert_eq!(again.as_ref(), Ok(&order));
    }
    let other = fixture.orders().check_out(&call_with_key("k", "two"), check_out(&id, None)).await;
    assert_eq!(other, Err(OrdersError::KeyReused(KeyReused { key: "k".to_owned() })));
    assert_eq!(orders_of(fixture, ann.id.get()).await, [order]);
}

/// One that is not there, that was merged, that is nobody's, that is empty, or whose total is not what its buyer saw.
pub async fn a_cart_that_cannot_be_sold_is_refused(fixture: &dyn OrdersFixture) {
    let (ann, cup) = (user(fixture, "ann").await, product(fixture, "cup", 300).await);
    let refused = async |id: &CartId, expected| {
        fixture.orders().check_out(&call(), check_out(id, expected)).await.err()
    };
    let unknown = CartId::from_random(4711);
    let not_found = CartError::NotFound { id: unknown.clone() };
    assert_eq!(refused(&unknown, None).await, Some(OrdersError::Cart(not_found)));

    let mine = cart(fixture, Some(ann.id), &[]).await;
    assert_eq!(refused(&mine, None).await, Some(OrdersError::EmptyCart { id: mine.clone() }));

    let nobodys = cart(fixture, None, &[(cup.id, 1)]).await;
    assert_eq!(refused(&nobodys, None).await, Some(OrdersError::CartOfNobody { id: nobodys.clone() }));

    done(fixture.carts().assign(&call(), nobodys.clone(), ann.id).await);
    let closed = CartError::Closed { id: nobodys.clone() };
    assert_eq!(refused(&nobodys, None).await, Some(OrdersError::Cart(closed)));

    let other_total = OrdersError::OtherTotal { total: Money::gbp(300) };
    assert_eq!(refused(&mine, Some(Money::gbp(299))).await, Some(other_total));
    assert_eq!(orders_of(fixture, ann.id.get()).await, []);
}

/// In order of id, with all lines of each and none of another's.
pub async fn a_listing_walks_one_users_orders(fixture: &dyn OrdersFixture) {
    let (ann, bob) = (user(fixture, "ann").await, user(fixture, "bob").await);
    let cup = product(fixture, "cup", 300).await;
    let mut mine = Vec::new();
    for quantity in 1..=5 {
        mine.push(placed(fixture, ann.id, &[(cup.id, quantity), (cup.id, 1)]).await);
        placed(fixture, bob.id, &[(cup.id, 9)]).await;
    }
    let mut listed: Vec<Order> = Vec::new();
    loop {
        let after = listed.last().map(|order| order.id);
        let page = done(fixture.orders().list(&call(), ann.id, after, 2).await);
        assert!(page.items.len() == 2 || !page.more, "a page that is not full says that more follow");
        listed.extend(page.items);
        if !page.more {
            break;
        }
    }
    assert_eq!(listed, mine);
}

/// Positions count from 1, and `after` names the last one seen.
pub async fn a_history_is_walked_page_by_page(fixture: &dyn OrdersFixture) {
    done(fixture.orders().import(&call(), vec![invoice("536365", 77, 6)]).await);
    let [order] = orders_of(fixture, 77).await.try_into().unwrap_or_else(|all| panic!("{all:?}"));
    done(fixture.orders().cancel(&call(), order.id).await);
    let first = done(fixture.orders().history(&call(), order.id, None, 1).await);
    let second = done(fixture.orders().history(&call(), order.id, Some(1), 1).await);
    assert_eq!((first.more, second.more), (true, false));
    let positions: Vec<i64> = [first.items, second.items].concat().iter().map(|it| it.position).collect();
    assert_eq!(positions, [1, 2]);
    assert_eq!(done(fixture.orders().history(&call(), order.id, Some(2), 1).await).items, []);
}

/// With its prices and its date; calling it off has to wait for those who may have promised something.
pub async fn an_imported_order_is_confirmed_and_can_be_called_off(fixture: &dyn OrdersFixture) {
    let invoice = invoice("536365", 77, 6);
    assert_eq!(fixture.orders().import(&call(), vec![invoice.clone()]).await, Ok(vec![Imported::Added]));
    let [order] = orders_of(fixture, 77).await.try_into().unwrap_or_else(|all| panic!("{all:?}"));
    assert_eq!((order.reference.as_ref(), &order.lines), (Some(&invoice.reference), &invoice.lines));
    assert_eq!((order.status, order.placed_at), (OrderStatus::Confirmed, invoice.placed_at));
    assert_eq!((order.confirmed_at, &order.payment_method), (Some(invoice.placed_at), &None));
    assert_eq!(history(fixture, order.id).await, [(1, OrderStatus::Confirmed)]);

    let cancelling = done(fixture.orders().cancel(&call(), order.id).await);
    assert_eq!((cancelling.status, &cancelling.cancellation), (OrderStatus::Cancelling, &all_waiting()));
    assert_eq!(fixture.orders().cancel(&call(), order.id).await, Ok(cancelling));
    let steps = [(1, OrderStatus::Confirmed), (2, OrderStatus::Cancelling)];
    assert_eq!(history(fixture, order.id).await, steps);
    let again = fixture.orders().import(&call(), vec![invoice]).await;
    assert_eq!(again, Ok(vec![Imported::Unchanged]));
}

/// What was taken back already is not taken back again.
pub async fn a_credit_note_cannot_be_called_off(fixture: &dyn OrdersFixture) {
    let note = ImportOrder { kind: OrderKind::Cancellation, ..invoice("C536365", 77, 6) };
    done(fixture.orders().import(&call(), vec![note]).await);
    let [order] = orders_of(fixture, 77).await.try_into().unwrap_or_else(|all| panic!("{all:?}"));
    let refused = fixture.orders().cancel(&call(), order.id).await;
    assert!(matches!(refused, Err(OrdersError::NotCancellable { .. })), "{refused:?}");
    assert_eq!(fixture.orders().get(&call(), order.id).await, Ok(order));
}

/// A reference is stored once.
pub async fn importing_twice_changes_nothing(fixture: &dyn OrdersFixture) {
    let batch = vec![invoice("536365", 77, 6), invoice("536366", 77, 1)];
    let first = fixture.orders().import(&call(), batch.clone()).await;
    assert_eq!(first, Ok(vec![Imported::Added, Imported::Added]));
    let stored = orders_of(fixture, 77).await;
    let second = fixture.orders().import(&call(), batch).await;
    assert_eq!(second, Ok(vec![Imported::Unchanged, Imported::Unchanged]));
    assert_eq!(orders_of(fixture, 77).await, stored);
    assert_eq!(stored.len(), 2);
}

/// Lines, user and date are what a document is known by.
pub async fn a_document_with_other_lines_is_conflicting_and_left_as_it_was(fixture: &dyn OrdersFixture) {
    done(fixture.orders().import(&call(), vec![invoice("536365", 77, 6)]).await);
    let stored = orders_of(fixture, 77).await;
    let again = vec![
        invoice("536365", 77, 7),
        invoice("536365", 78, 6),
        invoice("536366", 78, 1),
        invoice("536366", 78, 2),
    ];
    use Imported::{Added, Conflicting};
    let outcome = fixture.orders().import(&call(), again).await;
    assert_eq!(outcome, Ok(vec![Conflicting, Conflicting, Added, Conflicting]));
    assert_eq!(orders_of(fixture, 77).await, stored);
}

/// All or none.
pub async fn one_order_without_a_total_stores_none_of_its_batch(fixture: &dyn OrdersFixture) {
    let empty = ImportOrder { lines: Vec::new(), ..invoice("536366", 77, 1) };
    let refused = fixture.orders().import(&call(), vec![invoice("536365", 77, 6), empty]).await;
    assert!(matches!(refused, Err(OrdersError::NoTotal { .. })), "{refused:?}");
    assert_eq!(orders_of(fixture, 77).await, []);
}
