//! The statements of the context. Each function belongs inside a transaction of its caller.
//!
//! Invariant: a change begins by locking the cart's row, so items change one change at a time, and each change that is one
//! takes the next version.

use contracts::cart::{Cart, CartCheckedOut, CartError, CartItem, CartStatus};
use contracts::{CartId, KeyReused, ProductId, Timestamp, UserId};
use db::{Conn, DbError};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl, SelectableHelper};

use crate::domain::{self, Assignment, CartRow, ItemRow, RowError, status_word};
use crate::schema::{cart_carts, cart_items};

/// What stops a use case.
#[derive(Debug)]
pub(crate) enum StoreError {
    Cart(CartError),
    /// The user got an open cart, or lost it, while this transaction looked: it is to be run again.
    Raced,
    Database(DbError),
}

impl From<CartError> for StoreError {
    fn from(error: CartError) -> Self {
        Self::Cart(error)
    }
}

impl From<KeyReused> for StoreError {
    fn from(error: KeyReused) -> Self {
        Self::Cart(error.into())
    }
}

impl From<DbError> for StoreError {
    fn from(error: DbError) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self::Database(DbError::Statement(error))
    }
}

impl From<RowError> for StoreError {
    fn from(error: RowError) -> Self {
        Self::Database(DbError::Corrupt { what: format!("a cart with {error} in another form") })
    }
}

/// How an item comes into a cart.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Put {
    /// Its units are added to those that are there.
    Added,
    /// Its units replace those that are there.
    Set,
}

pub(crate) fn open(
    conn: &mut Conn,
    id: &CartId,
    user_id: Option<UserId>,
    now: Timestamp,
) -> Result<Cart, StoreError> {
    if let Some(user_id) = user_id
        && let Some(row) = open_of(conn, user_id)?
    {
        return with_items(conn, row);
    }
    let row = domain::fresh(id, user_id, now);
    diesel::insert_into(cart_carts::table).values(&row).execute(conn).map_err(raced)?;
    Ok(domain::cart(row, Vec::new())?)
}

pub(crate) fn get(conn: &mut Conn, id: &CartId) -> Result<Cart, StoreError> {
    let row = cart_carts::table.find(id.as_str()).select(CartRow::as_select()).get_result(conn).optional()?;
    with_items(conn, row.ok_or_else(|| CartError::NotFound { id: id.clone() })?)
}

pub(crate) fn put(
    conn: &mut Conn,
    id: &CartId,
    item: &CartItem,
    how: Put,
    expected: Option<i64>,
    now: Timestamp,
) -> Result<Cart, StoreError> {
    domain::check_open(id, &locked(conn, id)?, expected)?;
    let there = items(conn, id.as_str())?;
    let item = match how {
        Put::Added => domain::added(&there, item)?,
        Put::Set => domain::set(&there, item)?,
    };
    store_item(conn, id.as_str(), &item)?;
    changed(conn, id, now)
}

pub(crate) fn take_out(
    conn: &mut Conn,
    id: &CartId,
    product_id: ProductId,
    expected: Option<i64>,
    now: Timestamp,
) -> Result<Cart, StoreError> {
    let row = locked(conn, id)?;
    domain::check_open(id, &row, expected)?;
    match diesel::delete(cart_items::table.find((id.as_str(), product_id.get()))).execute(conn)? {
        0 => with_items(conn, row),
        _ => changed(conn, id, now),
    }
}

pub(crate) fn assign(
    conn: &mut Conn,
    id: &CartId,
    user_id: UserId,
    now: Timestamp,
) -> Result<Cart, StoreError> {
    let target = open_of(conn, user_id)?.map(|row| row.id).filter(|target| target != id.as_str());
    let (row, target) = locked_with(conn, id, target.as_deref())?;
    match (domain::assignment(id, &row, user_id)?, target) {
        (Assignment::Theirs, _) => with_items(conn, row),
        (Assignment::MergedBefore(into), _) => get(conn, &CartId::try_from(into).map_err(RowError::CartId)?),
        (Assignment::Free, None) => {
            let given = cart_carts::user_id.eq(user_id.get());
            diesel::update(cart_carts::table.find(id.as_str())).set(given).execute(conn).map_err(raced)?;
            changed(conn, id, now)
        }
        // Checked out since it was found.
        (Assignment::Free, Some(target)) if target.status != status_word(CartStatus::Open) => {
            Err(StoreError::Raced)
        }
        (Assignment::Free, Some(target)) => merge(conn, id, user_id, target, now),
    }
}

/// Closes the cart that became an order. What was put in since the order was made goes into the user's next cart, which
/// is begun under `next` where there is none. `false` where it became another order.
pub(crate) fn check_out(
    conn: &mut Conn,
    heard: &CartCheckedOut,
    next: &CartId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let CartCheckedOut { cart_id: id, order_id, items: taken } = heard;
    let row = locked(conn, id)?;
    if row.status != status_word(CartStatus::Open) {
        // A merged cart gave its items away before it heard of the order: both stand.
        return Ok(row.order_id.is_none_or(|other| other == order_id.get()));
    }
    diesel::update(cart_carts::table.find(id.as_str()))
        .set((
            cart_carts::status.eq(status_word(CartStatus::CheckedOut)),
            cart_carts::order_id.eq(order_id.get()),
        ))
        .execute(conn)?;
    let left = domain::left(&items(conn, id.as_str())?, taken);
    for item in &left {
        take_units(conn, id, item)?;
    }
    let closed = changed(conn, id, now)?;
    if let (Some(user_id), false) = (closed.user_id, left.is_empty()) {
        let cart = open(conn, next, Some(user_id), now)?;
        for item in domain::merged(&cart.items, &left)? {
            store_item(conn, cart.id.as_str(), &item)?;
        }
        changed(conn, &cart.id, now)?;
    }
    Ok(true)
}

fn merge(
    conn: &mut Conn,
    id: &CartId,
    user_id: UserId,
    target: CartRow,
    now: Timestamp,
) -> Result<Cart, StoreError> {
    let (into, from) = (items(conn, &target.id)?, items(conn, id.as_str())?);
    for item in domain::merged(&into, &from)? {
        store_item(conn, &target.id, &item)?;
    }
    diesel::delete(cart_items::table.filter(cart_items::cart_id.eq(id.as_str()))).execute(conn)?;
    diesel::update(cart_carts::table.find(id.as_str()))
        .set((
            cart_carts::user_id.eq(user_id.get()),
            cart_carts::status.eq(status_word(CartStatus::Merged)),
            cart_carts::merged_into.eq(&target.id),
        ))
        .execute(conn)?;
    changed(conn, id, now)?;
    let target_id = CartId::try_from(target.id.clone()).map_err(RowError::CartId)?;
    if from.is_empty() { with_items(conn, target) } else { changed(conn, &target_id, now) }
}

/// The cart's row, which nobody else changes from here on.
fn locked(conn: &mut Conn, id: &CartId) -> Result<CartRow, StoreError> {
    let row =
        db::for_update!(conn, cart_carts::table.find(id.as_str()).select(CartRow::as_select()), get_result)
            .optional()?;
    Ok(row.ok_or_else(|| CartError::NotFound { id: id.clone() })?)
}

/// [`locked`] for two carts, in the order of their ids: two transactions that want both do not wait for each other.
fn locked_with(
    conn: &mut Conn,
    id: &CartId,
    other: Option<&str>,
) -> Result<(CartRow, Option<CartRow>), StoreError> {
    let Some(other) = other else { return Ok((locked(conn, id)?, None)) };
    let rows: Vec<CartRow> = db::for_update!(
        conn,
        cart_carts::table
            .filter(cart_carts::id.eq_any([id.as_str(), other]))
            .order(cart_carts::id)
            .select(CartRow::as_select()),
        load
    )?;
    let (mut wanted, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.id == id.as_str());
    let row = wanted.pop().ok_or_else(|| CartError::NotFound { id: id.clone() })?;
    Ok((row, others.into_iter().next()))
}

fn open_of(conn: &mut Conn, user_id: UserId) -> QueryResult<Option<CartRow>> {
    cart_carts::table
        .filter(cart_carts::user_id.eq(user_id.get()))
        .filter(cart_carts::status.eq(status_word(CartStatus::Open)))
        .select(CartRow::as_select())
        .get_result(conn)
        .optional()
}

fn items(conn: &mut Conn, id: &str) -> Result<Vec<CartItem>, StoreError> {
    let rows: Vec<ItemRow> = cart_items::table
        .filter(cart_items::cart_id.eq(id))
        .order(cart_items::product_id)
        .select(ItemRow::as_select())
        .load(conn)?;
    Ok(rows.into_iter().map(domain::item).collect::<Result<_, _>>()?)
}

fn store_item(conn: &mut Conn, cart_id: &str, item: &CartItem) -> QueryResult<()> {
    let row = domain::item_row(item);
    let updated =
        diesel::update(cart_items::table.find((cart_id, row.product_id))).set(&row).execute(conn)?;
    if updated == 0 {
        diesel::insert_into(cart_items::table)
            .values((cart_items::cart_id.eq(cart_id), &row))
            .execute(conn)?;
    }
    Ok(())
}

/// Takes this many units of a product out of a locked cart; the last one takes the item with it.
fn take_units(conn: &mut Conn, id: &CartId, item: &CartItem) -> QueryResult<()> {
    let row = domain::item_row(item);
    let held = cart_items::table.find((id.as_str(), row.product_id));
    diesel::delete(held.filter(cart_items::quantity.le(row.quantity))).execute(conn)?;
    diesel::update(held).set(cart_items::quantity.eq(cart_items::quantity - row.quantity)).execute(conn)?;
    Ok(())
}

/// Takes the next version of a locked cart, and returns the cart as it is now.
fn changed(conn: &mut Conn, id: &CartId, now: Timestamp) -> Result<Cart, StoreError> {
    let row = diesel::update(cart_carts::table.find(id.as_str()))
        .set((cart_carts::version.eq(cart_carts::version + 1), cart_carts::updated_at_ms.eq(now.as_millis())))
        .returning(cart_carts::all_columns)
        .get_result(conn)?;
    with_items(conn, row)
}

fn with_items(conn: &mut Conn, row: CartRow) -> Result<Cart, StoreError> {
    let items = items(conn, &row.id)?;
    Ok(domain::cart(row, items)?)
}

/// The only unique value that can be met is the user's open cart: ids are random.
fn raced(error: Error) -> StoreError {
    match error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => StoreError::Raced,
        other => other.into(),
    }
}
