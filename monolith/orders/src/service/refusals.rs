//! The errors of this context and of those it asks, as its callers learn them.
//!
//! Invariant: what was only asked has no effect, so an outage there says that nothing was done.

use contracts::cart::CartError;
use contracts::catalog::CatalogError;
use contracts::orders::{CONTEXT, OrdersError};
use contracts::payments::PaymentsError;
use contracts::users::UsersError;
use contracts::{Unavailable, cart, catalog, payments, users};

use crate::store::StoreError;

pub(super) fn of_users(error: UsersError) -> OrdersError {
    match error {
        UsersError::NotFound { id } => OrdersError::NoSuchUser { id },
        UsersError::Unavailable(error) => Unavailable { maybe_done: false, ..error }.into(),
        other => unasked(users::CONTEXT, &other.to_string()),
    }
}

pub(super) fn of_catalog(error: CatalogError) -> OrdersError {
    match error {
        CatalogError::Unavailable(error) => Unavailable { maybe_done: false, ..error }.into(),
        other => unasked(catalog::CONTEXT, &other.to_string()),
    }
}

pub(super) fn of_carts(error: CartError) -> OrdersError {
    match error {
        CartError::NotFound { .. } => OrdersError::Cart(error),
        CartError::Unavailable(error) => Unavailable { maybe_done: false, ..error }.into(),
        other => unasked(cart::CONTEXT, &other.to_string()),
    }
}

pub(super) fn of_payments(error: PaymentsError) -> OrdersError {
    match error {
        PaymentsError::NoProvider => OrdersError::NoPaymentProvider,
        PaymentsError::Unavailable(error) => Unavailable { maybe_done: false, ..error }.into(),
        other => unasked(payments::CONTEXT, &other.to_string()),
    }
}

/// An answer that the question does not have.
fn unasked(context: &str, answer: &str) -> OrdersError {
    let reason = format!("it answered a read with `{answer}`");
    Unavailable { context: context.to_owned(), reason, maybe_done: false }.into()
}

impl From<StoreError> for OrdersError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Order(error) => error,
            StoreError::Refused(id, refusal) => Self::NotCancellable { id, status: refusal.to_string() },
            StoreError::CartTaken => {
                let reason = "the cart became an order at the same moment".to_owned();
                Unavailable { context: CONTEXT.to_owned(), reason, maybe_done: false }.into()
            }
            StoreError::Database(error) => error.unavailable(CONTEXT).into(),
        }
    }
}
