//! The facts that every implementation of a port must show, whatever stands behind it: embedded, remote, rewritten.
//!
//! Invariant: speaks to ports only. Compiled only with the feature `suite`, for tests.

pub mod cart;
pub mod catalog;
mod fake;
pub mod inventory;
pub mod orders;
mod payment_provider;
mod payments;
mod replica;
pub mod shipping;
mod users;

pub use fake::{
    FakeCarts, FakeCatalog, FakeInventory, FakePayments, FakeProvider, FakeShipping, FakeUsers, Mishap,
};
pub use payment_provider::{
    a_charge_is_captured_once, a_decline_is_repeated_and_holds_nothing, a_key_with_another_amount_is_refused,
    a_voided_key_stays_closed, an_unknown_key_is_not_found, the_same_key_again_returns_the_same_charge,
};
pub use payments::{
    DECLINED_TOKEN, GOOD_TOKEN, a_declined_payment_stays_declined, a_refund_is_final,
    an_amount_of_nothing_is_refused, an_authorised_payment_can_be_read_back,
    an_order_without_a_payment_is_not_found, authorising_again_returns_the_same_payment,
    capturing_twice_succeeds, method, refunding_a_declined_payment_leaves_it_declined,
    refunding_twice_succeeds, refunding_what_was_never_authorised_keeps_it_out, wish,
};
pub use replica::{
    Delivery, Step, a_swap_of_e_mail_addresses_arrives, delivering_everything_twice_changes_nothing,
    every_change_of_the_owner_arrives, run_script,
};
pub use users::{
    a_created_user_can_be_read_back, a_delete_at_another_version_changes_nothing, a_deleted_user_is_gone,
    a_key_of_another_create_is_refused, a_refused_create_leaves_its_key_free,
    a_second_user_with_the_e_mail_address_is_refused, an_e_mail_address_of_a_deleted_user_is_free,
    an_id_is_never_given_out_again, an_unknown_user_is_not_found,
    an_update_at_another_version_changes_nothing, an_update_replaces_everything_but_the_beginning,
    creating_again_under_the_key_returns_the_same_user, ensuring_finds_or_adds_in_the_order_given,
    ensuring_twice_adds_once, listing_walks_all_users_in_order_of_id, texts_come_back_as_they_were,
    versions_grow_with_every_write,
};

use std::fmt::Debug;
use std::time::Duration;

use crate::catalog::ProductDetails;
use crate::payments::{PaymentProvider, Payments};
use crate::replication::{IntentLog, ReplicaSink};
use crate::users::{Address, User, UserDetails, Users};
use crate::{CallContext, IdempotencyKey, Money};

/// An empty users context that owns its data.
pub trait UsersFixture: Send + Sync {
    /// Its port.
    fn users(&self) -> &dyn Users;
}

/// An owner that keeps images of its users, and the other side of it; both empty.
pub trait ReplicaFixture: Send + Sync {
    /// The owner.
    fn owner(&self) -> &dyn Users;
    /// The owner's images; dual-write is on.
    fn log(&self) -> &dyn IntentLog;
    /// Where the other side takes images.
    fn sink(&self) -> &dyn ReplicaSink;
    /// The other side's users, for reading.
    fn replica(&self) -> &dyn Users;
}

/// A payments context without payments, whose provider takes [`GOOD_TOKEN`] and declines [`DECLINED_TOKEN`].
pub trait PaymentsFixture: Send + Sync {
    /// Its port.
    fn payments(&self) -> &dyn Payments;
}

/// A payment provider that takes [`GOOD_TOKEN`] and declines [`DECLINED_TOKEN`].
pub trait PaymentProviderFixture: Send + Sync {
    /// The provider, as we call it.
    fn provider(&self) -> &dyn PaymentProvider;
}

/// One asynchronous test per fact of the users port, each with the fixture that the given async function makes.
#[macro_export]
macro_rules! users_suite {
    ($fixture:path) => {
        $crate::suite_tests!($fixture:
            a_created_user_can_be_read_back,
            a_delete_at_another_version_changes_nothing,
            a_deleted_user_is_gone,
            a_key_of_another_create_is_refused,
            a_refused_create_leaves_its_key_free,
            a_second_user_with_the_e_mail_address_is_refused,
            an_e_mail_address_of_a_deleted_user_is_free,
            an_id_is_never_given_out_again,
            an_unknown_user_is_not_found,
            an_update_at_another_version_changes_nothing,
            an_update_replaces_everything_but_the_beginning,
            creating_again_under_the_key_returns_the_same_user,
            ensuring_finds_or_adds_in_the_order_given,
            ensuring_twice_adds_once,
            listing_walks_all_users_in_order_of_id,
            texts_come_back_as_they_were,
            versions_grow_with_every_write,
        );
    };
}

/// One asynchronous test per fact of an owner and its replica, each with the fixture that the function makes.
#[macro_export]
macro_rules! replica_suite {
    ($fixture:path) => {
        $crate::suite_tests!($fixture:
            a_swap_of_e_mail_addresses_arrives,
            delivering_everything_twice_changes_nothing,
            every_change_of_the_owner_arrives,
        );
    };
}

/// One asynchronous test per fact of the payments port, each with the fixture that the given async function makes.
#[macro_export]
macro_rules! payments_suite {
    ($fixture:path) => {
        $crate::suite_tests!($fixture:
            a_declined_payment_stays_declined,
            a_refund_is_final,
            an_amount_of_nothing_is_refused,
            an_authorised_payment_can_be_read_back,
            an_order_without_a_payment_is_not_found,
            authorising_again_returns_the_same_payment,
            capturing_twice_succeeds,
            refunding_a_declined_payment_leaves_it_declined,
            refunding_twice_succeeds,
            refunding_what_was_never_authorised_keeps_it_out,
        );
    };
}

/// One asynchronous test per fact of a payment provider, each with the fixture that the given async function makes.
#[macro_export]
macro_rules! payment_provider_suite {
    ($fixture:path) => {
        $crate::suite_tests!($fixture:
            a_charge_is_captured_once,
            a_decline_is_repeated_and_holds_nothing,
            a_key_with_another_amount_is_refused,
            a_voided_key_stays_closed,
            an_unknown_key_is_not_found,
            the_same_key_again_returns_the_same_charge,
        );
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! suite_tests {
    ($fixture:path: $($fact:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $fact() {
                $crate::suite::$fact(&$fixture().await).await;
            }
        )+
    };
    ($module:ident of $fixture:path: $($fact:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $fact() {
                $crate::suite::$module::$fact(&$fixture().await).await;
            }
        )+
    };
}

/// A call with ample time.
pub fn call() -> CallContext {
    CallContext::new("suite", Duration::from_secs(60))
}

/// A call with ample time and an idempotency key, with what tells its command from others.
pub fn call_with_key(key: &str, fingerprint: &str) -> CallContext {
    CallContext { idempotency: Some(done(IdempotencyKey::parse(key, fingerprint))), ..call() }
}

/// A product with this unit, in no category.
pub fn mug(sku: &str) -> ProductDetails {
    ProductDetails {
        sku: sku.to_owned(),
        name: format!("Mug {sku}"),
        price: Money::gbp(255),
        category_id: None,
    }
}

/// Details with this name and e-mail address, a phone and one address.
pub fn person(name: &str, email: &str) -> UserDetails {
    UserDetails {
        name: name.to_owned(),
        email: email.to_owned(),
        phone: Some("+44 20 7946 0000".to_owned()),
        addresses: vec![address("home")],
    }
}

fn address(label: &str) -> Address {
    Address {
        label: label.to_owned(),
        street: Some("1 High Street".to_owned()),
        city: None,
        postcode: Some("N1 9GU".to_owned()),
        country: "United Kingdom".to_owned(),
    }
}

/// Everything that a users port lists, page by page.
pub async fn all_users(users: &dyn Users) -> Vec<User> {
    let mut all: Vec<User> = Vec::new();
    loop {
        let page = done(users.list(&call(), all.last().map(|user| user.id), 7).await);
        assert!(page.items.len() <= 7, "a page of {} where 7 were asked for", page.items.len());
        assert!(!page.more || page.items.len() == 7, "a page that is not full says that more follow");
        all.extend(page.items);
        if !page.more {
            return all;
        }
    }
}

/// The value, or a failed test that shows the error.
fn done<T, E: Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("expected success, got {error:?}"),
    }
}
