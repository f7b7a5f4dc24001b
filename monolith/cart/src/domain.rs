//! What fits into a cart and whose it is, and the form in which the tables hold it.
//!
//! Invariant: no cart holds more than [`ITEMS_MAX`] products, or more than [`QUANTITY_MAX`] units of one.

use contracts::cart::{Cart, CartError, CartItem, CartStatus, ITEMS_MAX, QUANTITY_MAX};
use contracts::{
    CartId, CartIdError, Currency, IdError, Money, MoneyError, OrderId, ProductId, Timestamp, UserId,
};
use diesel::prelude::{AsChangeset, Insertable, Queryable, Selectable};

use crate::schema::{cart_carts, cart_items};

/// One row of `cart_carts`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = cart_carts)]
pub(crate) struct CartRow {
    pub(crate) id: String,
    pub(crate) user_id: Option<i64>,
    pub(crate) status: String,
    pub(crate) order_id: Option<i64>,
    pub(crate) merged_into: Option<String>,
    pub(crate) version: i64,
    pub(crate) created_at_ms: i64,
    pub(crate) updated_at_ms: i64,
}

/// What one row of `cart_items` says of its product.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = cart_items)]
pub(crate) struct ItemRow {
    pub(crate) product_id: i64,
    pub(crate) quantity: i64,
    pub(crate) unit_price_minor: i64,
    pub(crate) unit_price_currency: String,
}

/// Why a row is not one that this program wrote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error("an id")]
    Id(#[from] IdError),
    #[error("the id")]
    CartId(#[from] CartIdError),
    #[error("a currency")]
    Currency(#[from] MoneyError),
    #[error("a quantity")]
    Quantity,
    #[error("the status")]
    Status,
}

/// What giving a cart to a user comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Assignment {
    /// It is theirs already.
    Theirs,
    /// It went into this cart of theirs before.
    MergedBefore(String),
    /// It is nobody's yet.
    Free,
}

pub(crate) fn status_word(status: CartStatus) -> &'static str {
    match status {
        CartStatus::Open => "open",
        CartStatus::Merged => "merged",
        CartStatus::CheckedOut => "checked_out",
    }
}

fn status(word: &str) -> Result<CartStatus, RowError> {
    let all = [CartStatus::Open, CartStatus::Merged, CartStatus::CheckedOut];
    all.into_iter().find(|status| status_word(*status) == word).ok_or(RowError::Status)
}

/// A new empty cart.
pub(crate) fn fresh(id: &CartId, user_id: Option<UserId>, now: Timestamp) -> CartRow {
    CartRow {
        id: id.as_str().to_owned(),
        user_id: user_id.map(UserId::get),
        status: status_word(CartStatus::Open).to_owned(),
        order_id: None,
        merged_into: None,
        version: 1,
        created_at_ms: now.as_millis(),
        updated_at_ms: now.as_millis(),
    }
}

/// The cart of its rows.
pub(crate) fn cart(row: CartRow, items: Vec<CartItem>) -> Result<Cart, RowError> {
    Ok(Cart {
        id: CartId::try_from(row.id)?,
        user_id: row.user_id.map(UserId::try_from).transpose()?,
        status: status(&row.status)?,
        order_id: row.order_id.map(OrderId::try_from).transpose()?,
        items,
        created_at: Timestamp::from_millis(row.created_at_ms),
        updated_at: Timestamp::from_millis(row.updated_at_ms),
        version: row.version,
    })
}

pub(crate) fn item(row: ItemRow) -> Result<CartItem, RowError> {
    let currency = Currency::try_from(row.unit_price_currency)?;
    Ok(CartItem {
        product_id: ProductId::try_from(row.product_id)?,
        quantity: u32::try_from(row.quantity).map_err(|_| RowError::Quantity)?,
        unit_price: Money { minor: row.unit_price_minor, currency },
    })
}

pub(crate) fn item_row(item: &CartItem) -> ItemRow {
    ItemRow {
        product_id: item.product_id.get(),
        quantity: i64::from(item.quantity),
        unit_price_minor: item.unit_price.minor,
        unit_price_currency: item.unit_price.currency.into(),
    }
}

/// The item as it is once it was set.
pub(crate) fn set(items: &[CartItem], item: &CartItem) -> Result<CartItem, CartError> {
    let has_room = items.len() < ITEMS_MAX || units(items, item.product_id).is_some();
    if !has_room || item.quantity > QUANTITY_MAX {
        return Err(CartError::TooFull);
    }
    Ok(item.clone())
}

/// The item as it is once its units were added to those in the cart.
pub(crate) fn added(items: &[CartItem], item: &CartItem) -> Result<CartItem, CartError> {
    let quantity = units(items, item.product_id).unwrap_or(0).saturating_add(item.quantity);
    set(items, &CartItem { quantity, ..item.clone() })
}

/// The items that are new or different in a cart once those of another one were added. Their prices go with them, since
/// they are put in now.
pub(crate) fn merged(into: &[CartItem], from: &[CartItem]) -> Result<Vec<CartItem>, CartError> {
    let new = from.iter().filter(|item| units(into, item.product_id).is_none()).count();
    if into.len() + new > ITEMS_MAX {
        return Err(CartError::TooFull);
    }
    from.iter().map(|item| added(into, item)).collect()
}

/// What is left of a cart without the units that an order took.
pub(crate) fn left(items: &[CartItem], taken: &[(ProductId, u32)]) -> Vec<CartItem> {
    let of = |product| {
        taken
            .iter()
            .filter(|(id, _)| *id == product)
            .fold(0_u32, |sum, (_, units)| sum.saturating_add(*units))
    };
    let rest = items
        .iter()
        .map(|item| CartItem { quantity: item.quantity.saturating_sub(of(item.product_id)), ..item.clone() });
    rest.filter(|item| item.quantity > 0).collect()
}

/// Whether the cart can be given to this user.
pub(crate) fn assignment(id: &CartId, row: &CartRow, user_id: UserId) -> Result<Assignment, CartError> {
    match (row.user_id, &row.merged_into) {
        (Some(owner), _) if owner != user_id.get() => Err(CartError::OtherUser { id: id.clone() }),
        (Some(_), Some(into)) => Ok(Assignment::MergedBefore(into.clone())),
        (Some(_), None) => Ok(Assignment::Theirs),
        (None, _) if row.status == status_word(CartStatus::Open) => Ok(Assignment::Free),
        (None, _) => Err(CartError::Closed { id: id.clone() }),
    }
}

/// Whether the cart can be changed by somebody who looked at this version.
pub(crate) fn check_open(id: &CartId, row: &CartRow, expected: Option<i64>) -> Result<(), CartError> {
    if row.status != status_word(CartStatus::Open) {
        return Err(CartError::Closed { id: id.clone() });
    }
    if expected.is_some_and(|expected| expected != row.version) {
        return Err(CartError::Changed { id: id.clone(), version: row.version });
    }
    Ok(())
}

fn units(items: &[CartItem], product_id: ProductId) -> Option<u32> {
    items.iter().find(|item| item.product_id == product_id).map(|item| item.quantity)
}

#[cfg(test)]
mod tests;
