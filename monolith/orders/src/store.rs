//! The statements of the context. Each function belongs inside a transaction of its caller.
//!
//! Invariant: an order and its lines are written together, and lines never change afterwards. A change of an order begins by
//! locking its row, so its history tells one step after the other.

mod history;
mod import;
mod rows;

use contracts::orders::{Order, OrderKind, OrderLine, OrderStatus, OrdersError};
use contracts::{CartId, KeyReused, OrderId, Page, Timestamp, UserId};
use db::{Conn, DbError, for_update, on_each};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl, SelectableHelper};

use crate::domain::{Command, Draft, Next, Refusal};
use crate::schema::{orders_lines, orders_orders};

pub(crate) use history::history;
pub(crate) use import::import;
use rows::{LifeRow, LineRow, NewOrderRow, OrderRow, RowError, kind_word, status_word, written};

/// What stops a use case.
#[derive(Debug)]
pub(crate) enum StoreError {
    Order(OrdersError),
    Refused(OrderId, Refusal),
    /// The cart became an order while this transaction looked: that order is the answer.
    CartTaken,
    Database(DbError),
}

impl From<OrdersError> for StoreError {
    fn from(error: OrdersError) -> Self {
        Self::Order(error)
    }
}

impl From<KeyReused> for StoreError {
    fn from(error: KeyReused) -> Self {
        Self::Order(error.into())
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
        Self::Database(DbError::Corrupt { what: format!("an order with {error} in another form") })
    }
}

/// Stores a new order with the first step of its history.
pub(crate) fn place(conn: &mut Conn, draft: Draft, now: Timestamp) -> Result<Order, StoreError> {
    let row = NewOrderRow {
        user_id: draft.user_id.get(),
        reference: None,
        kind: kind_word(OrderKind::Sale),
        status: status_word(OrderStatus::Pending),
        currency: draft.total.currency.code(),
        total_minor: draft.total.minor,
        placed_at_ms: now.as_millis(),
        confirmed_at_ms: None,
        payment_method: Some(draft.payment_method.kind()),
        ship_to: written(draft.ship_to.as_ref())?,
        cart_id: draft.cart_id.as_ref().map(CartId::as_str),
    };
    let id = add(conn, &row, &draft.lines).map_err(cart_taken)?;
    let id = OrderId::try_from(id).map_err(RowError::from)?;
    history::begin(conn, id, OrderStatus::Pending, now)?;
    Ok(draft.placed(id, now))
}

pub(crate) fn get(conn: &mut Conn, id: OrderId) -> Result<Order, StoreError> {
    let row = orders_orders::table.find(id.get()).select(OrderRow::as_select()).get_result(conn);
    with_lines(conn, row.optional()?.ok_or(OrdersError::NotFound { id })?)
}

/// The order that this cart became.
pub(crate) fn of_cart(conn: &mut Conn, cart_id: &CartId) -> Result<Option<Order>, StoreError> {
    let row: Option<OrderRow> = orders_orders::table
        .filter(orders_orders::cart_id.eq(cart_id.as_str()))
        .select(OrderRow::as_select())
        .get_result(conn)
        .optional()?;
    row.map(|row| with_lines(conn, row)).transpose()
}

pub(crate) fn list(
    conn: &mut Conn,
    user_id: UserId,
    after: Option<OrderId>,
    limit: u32,
) -> Result<Page<Order>, StoreError> {
    let after = after.map_or(0, OrderId::get);
    let mut rows: Vec<OrderRow> = orders_orders::table
        .filter(orders_orders::user_id.eq(user_id.get()))
        .filter(orders_orders::id.gt(after))
        .order(orders_orders::id)
        .limit(i64::from(limit) + 1)
        .select(OrderRow::as_select())
        .load(conn)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let Some(last) = rows.last() else { return Ok(Page { items: Vec::new(), more }) };
    let mut lines = lines_between(conn, user_id, after, last.id)?.into_iter().peekable();
    let order = |row: OrderRow| {
        let id = row.id;
        row.order(std::iter::from_fn(|| lines.next_if(|line| line.order_id == id)))
    };
    Ok(Page { items: rows.into_iter().map(order).collect::<Result<_, RowError>>()?, more })
}

/// Tells an order something, and returns where it went by that; nothing if it stays where it is.
pub(crate) fn advance(
    conn: &mut Conn,
    id: OrderId,
    command: Command,
    now: Timestamp,
) -> Result<Option<OrderStatus>, StoreError> {
    let row =
        for_update!(conn, orders_orders::table.find(id.get()).select(OrderRow::as_select()), get_result);
    let row: OrderRow = row.optional()?.ok_or(OrdersError::NotFound { id })?;
    let life = row.life()?;
    let next = life.after(command, now).map_err(|refusal| StoreError::Refused(id, refusal))?;
    let (next, step) = match next {
        Next::Same => return Ok(None),
        Next::Silent(next) => (next, None),
        Next::Step(next, note) => (next, Some(note)),
    };
    diesel::update(orders_orders::table.find(id.get())).set(LifeRow::of(&next)?).execute(conn)?;
    if let Some(note) = step {
        history::append(conn, id, next.status, now, note)?;
    }
    Ok((next.status != life.status).then_some(next.status))
}

fn add(conn: &mut Conn, order: &NewOrderRow<'_>, lines: &[OrderLine]) -> QueryResult<i64> {
    // For each backend by itself: through both at once, diesel writes a statement's text anew for every call. And one
    // statement per line, not one for all: it prepares a statement of many rows anew each time, and this one only once
    // per connection.
    on_each!(conn, |conn| {
        let id: i64 = diesel::insert_into(orders_orders::table)
            .values(order)
            .returning(orders_orders::id)
            .get_result(conn)?;
        for line in LineRow::of(id, lines) {
            diesel::insert_into(orders_lines::table).values(&line).execute(conn)?;
        }
        Ok(id)
    })
}

fn with_lines(conn: &mut Conn, row: OrderRow) -> Result<Order, StoreError> {
    let lines: Vec<LineRow> = orders_lines::table
        .filter(orders_lines::order_id.eq(row.id))
        .order(orders_lines::position)
        .select(LineRow::as_select())
        .load(conn)?;
    Ok(row.order(lines)?)
}

/// The lines of a user's orders with an id above `after` and up to `last`, in order. One statement for a page, and the same
/// one for every page.
fn lines_between(conn: &mut Conn, user_id: UserId, after: i64, last: i64) -> QueryResult<Vec<LineRow>> {
    let orders = orders_orders::table
        .filter(orders_orders::user_id.eq(user_id.get()))
        .filter(orders_orders::id.gt(after))
        .filter(orders_orders::id.le(last))
        .select(orders_orders::id);
    orders_lines::table
        .filter(orders_lines::order_id.eq_any(orders))
        .order((orders_lines::order_id, orders_lines::position))
        .select(LineRow::as_select())
        .load(conn)
}

/// Of what a new order says, only its cart can be there already.
fn cart_taken(error: Error) -> StoreError {
    match error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => StoreError::CartTaken,
        other => other.into(),
    }
}
