//! The history of an order.
//!
//! Invariant: positions begin at 1 and have no gaps. An imported order has no entry at 1, since an import would pay for each:
//! it was confirmed when it was placed, and that is what is told.

use contracts::orders::{HistoryEntry, OrderStatus, OrdersError};
use contracts::{OrderId, Page, Timestamp};
use db::{Conn, on_each};
use diesel::dsl::max;
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl, SelectableHelper};

use super::StoreError;
use super::rows::{EntryRow, RowError, status_word};
use crate::schema::{orders_history, orders_orders};

const FIRST: i64 = 1;

/// The first entry of an order that begins here.
pub(super) fn begin(conn: &mut Conn, id: OrderId, status: OrderStatus, now: Timestamp) -> QueryResult<()> {
    insert(conn, &entry(id, FIRST, status, now, None))
}

/// The next entry. The caller holds the lock of the order.
pub(super) fn append(
    conn: &mut Conn,
    id: OrderId,
    status: OrderStatus,
    now: Timestamp,
    note: Option<String>,
) -> QueryResult<()> {
    let last: Option<i64> = orders_history::table
        .filter(orders_history::order_id.eq(id.get()))
        .select(max(orders_history::position))
        .get_result(conn)?;
    insert(conn, &entry(id, last.unwrap_or(FIRST) + 1, status, now, note))
}

/// What happened to an order after position `after`.
pub(crate) fn history(
    conn: &mut Conn,
    id: OrderId,
    after: Option<i64>,
    limit: u32,
) -> Result<Page<HistoryEntry>, StoreError> {
    let placed_at_ms: Option<i64> = orders_orders::table
        .find(id.get())
        .select(orders_orders::placed_at_ms)
        .get_result(conn)
        .optional()?;
    let placed_at = Timestamp::from_millis(placed_at_ms.ok_or(OrdersError::NotFound { id })?);
    let after = after.unwrap_or(0);
    let mut rows: Vec<EntryRow> = orders_history::table
        .filter(orders_history::order_id.eq(id.get()))
        .filter(orders_history::position.gt(after))
        .order(orders_history::position)
        .limit(i64::from(limit) + 1)
        .select(EntryRow::as_select())
        .load(conn)?;
    if after < FIRST && rows.first().is_none_or(|row| row.position != FIRST) {
        rows.insert(0, entry(id, FIRST, OrderStatus::Confirmed, placed_at, None));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    let items = rows.into_iter().take(limit).map(EntryRow::entry).collect::<Result<_, RowError>>()?;
    Ok(Page { items, more })
}

fn insert(conn: &mut Conn, entry: &EntryRow) -> QueryResult<()> {
    on_each!(conn, |conn| diesel::insert_into(orders_history::table).values(entry).execute(conn)?);
    Ok(())
}

fn entry(id: OrderId, position: i64, status: OrderStatus, at: Timestamp, note: Option<String>) -> EntryRow {
    let (order_id, status) = (id.get(), status_word(status).to_owned());
    EntryRow { order_id, position, status, at_ms: at.as_millis(), note }
}
