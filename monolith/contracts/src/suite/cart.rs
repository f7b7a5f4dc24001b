//! Facts about the carts port.
//!
//! Invariant: each begins without carts; users and products are made through their ports, as anybody would.

use std::collections::BTreeSet;

use super::{call, call_with_key, done, mug, person};
use crate::cart::{Cart, CartError, CartStatus, Carts, ITEMS_MAX, PutItem, QUANTITY_MAX};
use crate::catalog::{Catalog, Product, ProductDetails};
use crate::users::Users;
use crate::{CartId, Money, ProductId, UserId};

/// A cart context without carts, and the contexts that it asks; their ports may be fakes.
pub trait CartsFixture: Send + Sync {
    /// Its port.
    fn carts(&self) -> &dyn Carts;
    /// The users that it asks for.
    fn users(&self) -> &dyn Users;
    /// The catalog that it asks for prices.
    fn catalog(&self) -> &dyn Catalog;
}

/// One asynchronous test per fact of the carts port, each with the fixture that the given async function makes.
#[macro_export]
macro_rules! carts_suite {
    ($fixture:path) => {
        $crate::suite_tests!(cart of $fixture:
            a_cart_at_another_version_is_left_as_it_is,
            a_closed_cart_cannot_be_changed,
            a_key_repeats_its_command_and_no_other,
            a_new_cart_is_open_and_empty,
            a_user_has_one_open_cart,
            adding_adds_units_at_the_price_of_the_moment,
            an_anonymous_cart_can_be_given_to_a_user,
            an_unknown_cart_is_not_found,
            assigning_merges_into_the_open_cart_of_the_user,
            assigning_twice_succeeds,
            items_come_in_order_of_product,
            setting_replaces_the_units,
            taking_out_twice_succeeds,
            the_cart_of_another_user_stays_theirs,
            too_much_is_refused_and_changes_nothing,
            what_the_other_contexts_do_not_know_is_refused,
        );
    };
}

async fn user(fixture: &dyn CartsFixture, name: &str) -> UserId {
    done(fixture.users().create(&call(), person(name, &format!("{name}@example.com"))).await).id
}

async fn product(fixture: &dyn CartsFixture, sku: &str) -> Product {
    done(fixture.catalog().create(&call(), mug(sku)).await)
}

async fn products(fixture: &dyn CartsFixture, number: usize) -> Vec<ProductId> {
    let batch = (0..number).map(|number| mug(&format!("M{number}"))).collect();
    done(fixture.catalog().ensure(&call(), batch).await).iter().map(|ensured| ensured.id).collect()
}

async fn opened(fixture: &dyn CartsFixture, user_id: Option<UserId>) -> Cart {
    done(fixture.carts().open(&call(), user_id).await)
}

async fn added(fixture: &dyn CartsFixture, id: &CartId, product_id: ProductId, quantity: u32) -> Cart {
    done(fixture.carts().add(&call(), id.clone(), units(product_id, quantity), None).await)
}

fn units(product_id: ProductId, quantity: u32) -> PutItem {
    PutItem { product_id, quantity }
}

fn quantities(cart: &Cart) -> Vec<(ProductId, u32)> {
    cart.items.iter().map(|item| (item.product_id, item.quantity)).collect()
}

/// What `open` returns is what `get` returns, and no two anonymous carts are one.
pub async fn a_new_cart_is_open_and_empty(fixture: &dyn CartsFixture) {
    let (carts, ann) = (fixture.carts(), user(fixture, "ann").await);
    let mut ids = BTreeSet::new();
    for user_id in [None, Some(ann), None] {
        let cart = opened(fixture, user_id).await;
        assert_eq!((cart.status, cart.user_id, cart.order_id), (CartStatus::Open, user_id, None));
        assert_eq!((cart.items.len(), cart.created_at), (0, cart.updated_at));
        assert_eq!(carts.get(&call(), cart.id.clone()).await, Ok(cart.clone()));
        assert!(ids.insert(cart.id));
    }
}

/// Opening again gives a user the open cart, with what is in it.
pub async fn a_user_has_one_open_cart(fixture: &dyn CartsFixture) {
    let (ann, bob) = (user(fixture, "ann").await, user(fixture, "bob").await);
    let mug = product(fixture, "A1").await;
    let cart = opened(fixture, Some(ann)).await;
    let filled = added(fixture, &cart.id, mug.id, 2).await;
    assert_eq!(opened(fixture, Some(ann)).await, filled);
    assert_ne!(opened(fixture, Some(bob)).await.id, cart.id);
}

/// Whatever is asked of a cart that nobody opened, it is not found.
pub async fn an_unknown_cart_is_not_found(fixture: &dyn CartsFixture) {
    let (carts, id) = (fixture.carts(), CartId::from_random(u128::MAX));
    let (ann, mug) = (user(fixture, "ann").await, product(fixture, "A1").await);
    let unknown = Err(CartError::NotFound { id: id.clone() });
    assert_eq!(carts.get(&call(), id.clone()).await, unknown);
    assert_eq!(carts.add(&call(), id.clone(), units(mug.id, 1), None).await, unknown);
    assert_eq!(carts.set(&call(), id.clone(), units(mug.id, 1), None).await, unknown);
    assert_eq!(carts.take_out(&call(), id.clone(), mug.id, None).await, unknown);
    assert_eq!(carts.assign(&call(), id, ann).await, unknown);
}

/// Units add up; the price is that of the last time, and the version grows.
pub async fn adding_adds_units_at_the_price_of_the_moment(fixture: &dyn CartsFixture) {
    let (cart, mug) = (opened(fixture, None).await, product(fixture, "A1").await);
    let first = added(fixture, &cart.id, mug.id, 2).await;
    assert_eq!(first.items.first().map(|item| item.unit_price), Some(mug.details.price));
    let dearer = ProductDetails { price: Money::gbp(999), ..mug.details };
    done(fixture.catalog().update(&call(), mug.id, dearer, None).await);
    assert_eq!(fixture.carts().get(&call(), cart.id.clone()).await, Ok(first.clone()));
    let second = added(fixture, &cart.id, mug.id, 3).await;
    assert_eq!(quantities(&second), [(mug.id, 5)]);
    assert_eq!(second.items.first().map(|item| item.unit_price), Some(Money::gbp(999)));
    assert!(cart.version < first.version && first.version < second.version);
    assert_eq!(fixture.carts().get(&call(), cart.id).await, Ok(second));
}

/// Setting puts in what is not there and replaces what is.
pub async fn setting_replaces_the_units(fixture: &dyn CartsFixture) {
    let (cart, mug) = (opened(fixture, None).await, product(fixture, "A1").await);
    for quantity in [3, 3, 1, QUANTITY_MAX] {
        let set = done(fixture.carts().set(&call(), cart.id.clone(), units(mug.id, quantity), None).await);
        assert_eq!(quantities(&set), [(mug.id, quantity)]);
    }
}

/// Items are listed by product, whatever came first.
pub async fn items_come_in_order_of_product(fixture: &dyn CartsFixture) {
    let (cart, ids) = (opened(fixture, None).await, products(fixture, 3).await);
    for id in ids.iter().rev() {
        added(fixture, &cart.id, *id, 1).await;
    }
    let cart = done(fixture.carts().get(&call(), cart.id).await);
    assert_eq!(cart.items.iter().map(|item| item.product_id).collect::<Vec<_>>(), ids);
}

/// A product that is not in the cart can be taken out; that changes nothing, also not the version.
pub async fn taking_out_twice_succeeds(fixture: &dyn CartsFixture) {
    let (cart, ids) = (opened(fixture, None).await, products(fixture, 2).await);
    for id in &ids {
        added(fixture, &cart.id, *id, 2).await;
    }
    let [mug, cup] = ids.as_slice() else { panic!("2 products expected, got {ids:?}") };
    let once = done(fixture.carts().take_out(&call(), cart.id.clone(), *mug, None).await);
    assert_eq!(quantities(&once), [(*cup, 2)]);
    assert_eq!(fixture.carts().take_out(&call(), cart.id, *mug, None).await, Ok(once));
}

/// Neither too many units of one product nor too many products; a refusal leaves the cart as it is.
pub async fn too_much_is_refused_and_changes_nothing(fixture: &dyn CartsFixture) {
    let (carts, cart) = (fixture.carts(), opened(fixture, None).await);
    let ids = products(fixture, ITEMS_MAX + 1).await;
    let Some((extra, ids)) = ids.split_last() else { panic!("no products") };
    let mut full = cart.clone();
    for id in ids {
        full = added(fixture, &cart.id, *id, QUANTITY_MAX).await;
    }
    for refused in ids.iter().take(1).chain([extra]) {
        let more = carts.add(&call(), cart.id.clone(), units(*refused, 1), None).await;
        assert_eq!(more, Err(CartError::TooFull));
    }
    assert_eq!(carts.set(&call(), cart.id.clone(), units(*extra, 1), None).await, Err(CartError::TooFull));
    assert_eq!(carts.get(&call(), cart.id.clone()).await, Ok(full));

    let ann = user(fixture, "ann").await;
    let theirs = opened(fixture, Some(ann)).await;
    let theirs = added(fixture, &theirs.id, *extra, 1).await;
    assert_eq!(carts.assign(&call(), cart.id.clone(), ann).await, Err(CartError::TooFull));
    assert_eq!(carts.get(&call(), theirs.id.clone()).await, Ok(theirs));
    assert_eq!(done(carts.get(&call(), cart.id).await).status, CartStatus::Open);
}

/// Products and users must exist.
pub async fn what_the_other_contexts_do_not_know_is_refused(fixture: &dyn CartsFixture) {
    let (carts, cart) = (fixture.carts(), opened(fixture, None).await);
    let id = done(ProductId::try_from(4711));
    let no_product = Err(CartError::NoSuchProduct { id });
    assert_eq!(carts.add(&call(), cart.id.clone(), units(id, 1), None).await, no_product);
    assert_eq!(carts.set(&call(), cart.id.clone(), units(id, 1), None).await, no_product);
    let id = done(UserId::try_from(4711));
    let no_user = Err(CartError::NoSuchUser { id });
    assert_eq!(carts.open(&call(), Some(id)).await, no_user);
    assert_eq!(carts.assign(&call(), cart.id.clone(), id).await, no_user);
    assert_eq!(carts.get(&call(), cart.id.clone()).await, Ok(cart));
}

/// Whoever looked at another version is told the one of now; the right version passes.
pub async fn a_cart_at_another_version_is_left_as_it_is(fixture: &dyn CartsFixture) {
    let (carts, mug) = (fixture.carts(), product(fixture, "A1").await);
    let seen = opened(fixture, None).await;
    let now = added(fixture, &seen.id, mug.id, 1).await;
    let (id, old) = (seen.id, Some(seen.version));
    let changed = Err(CartError::Changed { id: id.clone(), version: now.version });
    assert_eq!(carts.add(&call(), id.clone(), units(mug.id, 1), old).await, changed);
    assert_eq!(carts.set(&call(), id.clone(), units(mug.id, 1), old).await, changed);
    assert_eq!(carts.take_out(&call(), id.clone(), mug.id, old).await, changed);
    assert_eq!(carts.get(&call(), id.clone()).await, Ok(now.clone()));
    let added = done(carts.add(&call(), id.clone(), units(mug.id, 1), Some(now.version)).await);
    let set = done(carts.set(&call(), id.clone(), units(mug.id, 7), Some(added.version)).await);
    let empty = done(carts.take_out(&call(), id, mug.id, Some(set.version)).await);
    assert_eq!(empty.items, []);
}

/// An anonymous cart becomes the open one of a user who has none.
pub async fn an_anonymous_cart_can_be_given_to_a_user(fixture: &dyn CartsFixture) {
    let (ann, mug) = (user(fixture, "ann").await, product(fixture, "A1").await);
    let cart = opened(fixture, None).await;
    let filled = added(fixture, &cart.id, mug.id, 2).await;
    let given = done(fixture.carts().assign(&call(), cart.id.clone(), ann).await);
    assert_eq!((&given.id, given.user_id, &given.items), (&cart.id, Some(ann), &filled.items));
    assert!(given.version > filled.version);
    assert_eq!(opened(fixture, Some(ann)).await, given);
}

/// Where the user has an open cart, the items go there, quantities added, and the anonymous one is closed and empty.
pub async fn assigning_merges_into_the_open_cart_of_the_user(fixture: &dyn CartsFixture) {
    let (ann, ids) = (user(fixture, "ann").await, products(fixture, 3).await);
    let [mug, cup, bowl] = ids.as_slice() else { panic!("3 products expected, got {ids:?}") };
    let (theirs, anonymous) = (opened(fixture, Some(ann)).await, opened(fixture, None).await);
    for (id, product, quantity) in
        [(&theirs.id, mug, 1), (&theirs.id, cup, 2), (&anonymous.id, cup, 3), (&anonymous.id, bowl, 4)]
    {
        added(fixture, id, *product, quantity).await;
    }
    let merged = done(fixture.carts().assign(&call(), anonymous.id.clone(), ann).await);
    assert_eq!(merged.id, theirs.id);
    assert_eq!(quantities(&merged), [(*mug, 1), (*cup, 5), (*bowl, 4)]);
    assert_eq!(opened(fixture, Some(ann)).await, merged);
    let emptied = done(fixture.carts().get(&call(), anonymous.id).await);
    assert_eq!((emptied.status, emptied.user_id), (CartStatus::Merged, Some(ann)));
    assert_eq!(emptied.items, []);
}

/// Assigning a cart to the user who has it already, or whose cart has its items, changes nothing.
pub async fn assigning_twice_succeeds(fixture: &dyn CartsFixture) {
    let (carts, ann) = (fixture.carts(), user(fixture, "ann").await);
    let mug = product(fixture, "A1").await;
    let (first, second) = (opened(fixture, None).await, opened(fixture, None).await);
    added(fixture, &second.id, mug.id, 2).await;
    let given = done(carts.assign(&call(), first.id.clone(), ann).await);
    assert_eq!(carts.assign(&call(), first.id.clone(), ann).await, Ok(given));
    let merged = done(carts.assign(&call(), second.id.clone(), ann).await);
    assert_eq!(quantities(&merged), [(mug.id, 2)]);
    assert_eq!(carts.assign(&call(), second.id, ann).await, Ok(merged.clone()));
    assert_eq!(carts.get(&call(), first.id).await, Ok(merged));
}

/// A cart that has a user cannot be given to another one, be it open or merged.
pub async fn the_cart_of_another_user_stays_theirs(fixture: &dyn CartsFixture) {
    let (carts, ann, bob) = (fixture.carts(), user(fixture, "ann").await, user(fixture, "bob").await);
    let (theirs, merged) = (opened(fixture, Some(ann)).await, opened(fixture, None).await);
    done(carts.assign(&call(), merged.id.clone(), ann).await);
    for id in [theirs.id, merged.id] {
        let before = done(carts.get(&call(), id.clone()).await);
        let refused = carts.assign(&call(), id.clone(), bob).await;
        assert_eq!(refused, Err(CartError::OtherUser { id: id.clone() }));
        assert_eq!(carts.get(&call(), id).await, Ok(before));
    }
}

/// Nothing goes into a merged cart or comes out of it.
pub async fn a_closed_cart_cannot_be_changed(fixture: &dyn CartsFixture) {
    let (carts, ann) = (fixture.carts(), user(fixture, "ann").await);
    let mug = product(fixture, "A1").await;
    opened(fixture, Some(ann)).await;
    let id = opened(fixture, None).await.id;
    done(carts.assign(&call(), id.clone(), ann).await);
    let closed = Err(CartError::Closed { id: id.clone() });
    assert_eq!(carts.add(&call(), id.clone(), units(mug.id, 1), None).await, closed);
    assert_eq!(carts.set(&call(), id.clone(), units(mug.id, 1), None).await, closed);
    assert_eq!(carts.take_out(&call(), id, mug.id, None).await, closed);
}

/// The same key again gives the same answer and does nothing more; with another command it is refused.
pub async fn a_key_repeats_its_command_and_no_other(fixture: &dyn CartsFixture) {
    let (carts, mug) = (fixture.carts(), product(fixture, "A1").await);
    let (open, add) = (call_with_key("o", "open"), call_with_key("a", "add one"));
    let cart = done(carts.open(&open, None).await);
    assert_eq!(carts.open(&open, None).await, Ok(cart.clone()));
    let first = done(carts.add(&add, cart.id.clone(), units(mug.id, 1), None).await);
    done(fixture.catalog().delete(&call(), mug.id, None).await);
    assert_eq!(carts.add(&add, cart.id.clone(), units(mug.id, 1), None).await, Ok(first.clone()));
    assert_eq!(carts.get(&call(), cart.id.clone()).await, Ok(first));
    let reused = carts.add(&call_with_key("a", "add two"), cart.id, units(mug.id, 2), None).await;
    assert!(matches!(reused, Err(CartError::KeyReused(_))), "{reused:?}");
}
