//! The statements of the context. Each function belongs inside a transaction of its caller.
//!
//! Invariant: an order and its lines are written together, and lines never change afterwards.

use contracts::orders::{ImportOrder, Imported, Order, OrderKind, OrderLine, OrderStatus, OrdersError};
use contracts::{Money, OrderId, Page, Timestamp, UserId};
use db::DbError;
use diesel::result::Error;
use diesel::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl,
    SelectableHelper, SqliteConnection,
};

use crate::domain::{self, LineRow, OrderRow, RowError, kind_word, status_word};
use crate::schema::{orders_lines, orders_orders};

/// What stops a use case.
#[derive(Debug)]
pub(crate) enum StoreError {
    Order(OrdersError),
    Database(DbError),
}

impl From<OrdersError> for StoreError {
    fn from(error: OrdersError) -> Self {
        Self::Order(error)
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

/// An order that is about to be stored.
pub(crate) struct NewOrder<'a> {
    pub(crate) user_id: UserId,
    pub(crate) reference: Option<&'a str>,
    pub(crate) kind: OrderKind,
    pub(crate) lines: &'a [OrderLine],
    pub(crate) total: Money,
    pub(crate) placed_at: Timestamp,
}

pub(crate) fn add(conn: &mut SqliteConnection, order: &NewOrder<'_>) -> QueryResult<i64> {
    let id: i64 = diesel::insert_into(orders_orders::table)
        .values((
            orders_orders::user_id.eq(order.user_id.get()),
            orders_orders::reference.eq(order.reference),
            orders_orders::kind.eq(kind_word(order.kind)),
            orders_orders::status.eq(status_word(OrderStatus::Placed)),
            orders_orders::currency.eq(order.total.currency.code()),
            orders_orders::total_minor.eq(order.total.minor),
            orders_orders::placed_at_ms.eq(order.placed_at.as_millis()),
        ))
        .returning(orders_orders::id)
        .get_result(conn)?;
    // One statement per line, not one for all: diesel prepares a statement of many rows anew each time, and this
    // one only once per connection.
    for line in domain::line_rows(id, order.lines) {
        diesel::insert_into(orders_lines::table).values(&line).execute(conn)?;
    }
    Ok(id)
}

pub(crate) fn get(conn: &mut SqliteConnection, id: OrderId) -> Result<Order, StoreError> {
    let row =
        orders_orders::table.find(id.get()).select(OrderRow::as_select()).get_result(conn).optional()?;
    let row = row.ok_or(OrdersError::NotFound { id })?;
    let lines = lines(conn, id.get())?;
    Ok(domain::order(row, lines)?)
}

pub(crate) fn list(
    conn: &mut SqliteConnection,
    user_id: UserId,
    after: Option<OrderId>,
    limit: u32,
) -> Result<Page<Order>, StoreError> {
    let mut rows: Vec<OrderRow> = orders_orders::table
        .filter(orders_orders::user_id.eq(user_id.get()))
        .filter(orders_orders::id.gt(after.map_or(0, OrderId::get)))
        .order(orders_orders::id)
        .limit(i64::from(limit) + 1)
        .select(OrderRow::as_select())
        .load(conn)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let lines = lines(conn, row.id)?;
        items.push(domain::order(row, lines)?);
    }
    Ok(Page { items, more })
}

pub(crate) fn cancel(conn: &mut SqliteConnection, id: OrderId, now: Timestamp) -> Result<Order, StoreError> {
    let placed =
        orders_orders::id.eq(id.get()).and(orders_orders::status.eq(status_word(OrderStatus::Placed)));
    diesel::update(orders_orders::table.filter(placed))
        .set((
            orders_orders::status.eq(status_word(OrderStatus::Cancelled)),
            orders_orders::cancelled_at_ms.eq(now.as_millis()),
        ))
        .execute(conn)?;
    get(conn, id)
}

pub(crate) fn import(
    conn: &mut SqliteConnection,
    batch: &[ImportOrder],
) -> Result<Vec<Imported>, StoreError> {
    batch.iter().map(|order| import_one(conn, order)).collect()
}

fn import_one(conn: &mut SqliteConnection, order: &ImportOrder) -> Result<Imported, StoreError> {
    let total = domain::total(&order.lines)?;
    let found = orders_orders::table
        .filter(orders_orders::reference.eq(&order.reference))
        .select(OrderRow::as_select())
        // Not `first`, which SQLite would plan anew for every order of the batch: see `db::Db`.
        .get_result(conn)
        .optional()?;
    let Some(found) = found else {
        let new = NewOrder {
            user_id: order.user_id,
            reference: Some(&order.reference),
            kind: order.kind,
            lines: &order.lines,
            total,
            placed_at: order.placed_at,
        };
        add(conn, &new)?;
        return Ok(Imported::Added);
    };
    let stored = lines(conn, found.id)?;
    let stored = domain::order(found, stored)?;
    // Whether it was called off since is no matter of the document.
    let same = (stored.user_id, stored.kind, stored.placed_at)
        == (order.user_id, order.kind, order.placed_at)
        && stored.lines == order.lines;
    Ok(if same { Imported::Unchanged } else { Imported::Conflicting })
}

fn lines(conn: &mut SqliteConnection, order_id: i64) -> QueryResult<Vec<LineRow>> {
    orders_lines::table
        .filter(orders_lines::order_id.eq(order_id))
        .order(orders_lines::position)
        .select(LineRow::as_select())
        .load(conn)
}
