//! Reservations: what is promised to an order, and what becomes of it.
//!
//! Invariant: a reservation's status and the stock that it speaks of change in one transaction, and `released` is its last.

use contracts::inventory::{
    InventoryError, Reservation, ReservationStatus, Reserve, ReservedLine, StockLevel,
};
use contracts::{OrderId, ProductId, Timestamp};
use db::{Conn, DbError, for_update, on_each};
use diesel::dsl::sql;
use diesel::sql_types::Bool;
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl, SelectableHelper};

use super::StoreError;
use crate::domain::{self, LevelRow, LineRow, ReservationRow, RowError, status_word};
use crate::schema::{inventory_reservation_lines, inventory_reservations, inventory_stock};

pub(crate) fn reserve(conn: &mut Conn, reserve: Reserve) -> Result<Reservation, StoreError> {
    let Reserve { order_id, lines, expires_at } = reserve;
    if !add(conn, order_id, ReservationStatus::Held, expires_at)? {
        let there = reservation(conn, order_id)?;
        return match there.status {
            ReservationStatus::Released => Err(InventoryError::Released { order_id }.into()),
            ReservationStatus::Held | ReservationStatus::Confirmed => Ok(there),
        };
    }
    let wanted = domain::wanted(&lines);
    let levels = locked_levels(conn, wanted.keys().copied())?;
    let lines = domain::allocate(&wanted, &levels)?;
    for line in &lines {
        book(conn, line, Booking { on_hand: 0, reserved: i64::from(line.quantity) })?;
        diesel::insert_into(inventory_reservation_lines::table)
            .values(domain::line_row(order_id, line))
            .execute(conn)?;
    }
    Ok(Reservation { order_id, status: ReservationStatus::Held, lines, expires_at })
}

/// A held reservation that has expired is confirmed all the same, as long as its units are still promised.
pub(crate) fn confirm(conn: &mut Conn, order_id: OrderId) -> Result<Reservation, StoreError> {
    let reservation = locked(conn, order_id)?;
    match reservation.status {
        ReservationStatus::Confirmed => return Ok(reservation),
        ReservationStatus::Released => return Err(InventoryError::Released { order_id }.into()),
        ReservationStatus::Held => {}
    }
    for line in &reservation.lines {
        let quantity = i64::from(line.quantity);
        book(conn, line, Booking { on_hand: -quantity, reserved: -quantity })?;
    }
    set_status(conn, order_id, ReservationStatus::Confirmed)?;
    Ok(Reservation { status: ReservationStatus::Confirmed, ..reservation })
}

/// Where nothing was reserved, leaves a reservation without lines that is released already, so that none can come later.
pub(crate) fn release(conn: &mut Conn, order_id: OrderId, now: Timestamp) -> Result<(), StoreError> {
    if add(conn, order_id, ReservationStatus::Released, now)? {
        return Ok(());
    }
    let reservation = locked(conn, order_id)?;
    give_back(conn, &reservation)
}

pub(crate) fn reservation(conn: &mut Conn, order_id: OrderId) -> Result<Reservation, StoreError> {
    let row = inventory_reservations::table
        .find(order_id.get())
        .select(ReservationRow::as_select())
        .get_result(conn)
        .optional()?;
    with_lines(conn, order_id, row)
}

/// Orders whose held reservations have expired, the longest expired first.
pub(crate) fn due(conn: &mut Conn, now: Timestamp, limit: u32) -> Result<Vec<OrderId>, StoreError> {
    let ids: Vec<i64> = inventory_reservations::table
        // As text, since an index over a part of the rows serves no statement that binds the part's word.
        .filter(sql::<Bool>("status = 'held'"))
        .filter(inventory_reservations::expires_at_ms.le(now.as_millis()))
        .order((inventory_reservations::expires_at_ms, inventory_reservations::order_id))
        .limit(i64::from(limit))
        .select(inventory_reservations::order_id)
        .load(conn)?;
    Ok(ids.into_iter().map(OrderId::try_from).collect::<Result<_, _>>().map_err(RowError::Id)?)
}

/// Releases the reservation if it is still held and has expired, and says whether it did.
pub(crate) fn expire(conn: &mut Conn, order_id: OrderId, now: Timestamp) -> Result<bool, StoreError> {
    let reservation = locked(conn, order_id)?;
    if reservation.status != ReservationStatus::Held || reservation.expires_at > now {
        return Ok(false);
    }
    give_back(conn, &reservation)?;
    Ok(true)
}

fn give_back(conn: &mut Conn, reservation: &Reservation) -> Result<(), StoreError> {
    for line in &reservation.lines {
        let quantity = i64::from(line.quantity);
        let booking = match reservation.status {
            ReservationStatus::Held => Booking { on_hand: 0, reserved: -quantity },
            ReservationStatus::Confirmed => Booking { on_hand: quantity, reserved: 0 },
            ReservationStatus::Released => return Ok(()),
        };
        book(conn, line, booking)?;
    }
    Ok(set_status(conn, reservation.order_id, ReservationStatus::Released)?)
}

/// Adds a reservation without lines unless the order has one, and says whether it did. In PostgreSQL it first waits for
/// whoever is about to add one.
fn add(
    conn: &mut Conn,
    order_id: OrderId,
    status: ReservationStatus,
    expires_at: Timestamp,
) -> QueryResult<bool> {
    let row = (
        inventory_reservations::order_id.eq(order_id.get()),
        inventory_reservations::status.eq(status_word(status)),
        inventory_reservations::expires_at_ms.eq(expires_at.as_millis()),
    );
    let added = on_each!(conn, |conn| {
        diesel::insert_into(inventory_reservations::table)
            .values(row)
            .on_conflict_do_nothing()
            .execute(conn)?
    });
    Ok(added > 0)
}

/// The reservation, which changes by nobody else's hand before the transaction ends.
fn locked(conn: &mut Conn, order_id: OrderId) -> Result<Reservation, StoreError> {
    let rows = inventory_reservations::table.find(order_id.get());
    let row: QueryResult<ReservationRow> =
        for_update!(conn, rows.select(ReservationRow::as_select()), get_result);
    with_lines(conn, order_id, row.optional()?)
}

fn with_lines(
    conn: &mut Conn,
    order_id: OrderId,
    row: Option<ReservationRow>,
) -> Result<Reservation, StoreError> {
    let row = row.ok_or(InventoryError::NoReservation { order_id })?;
    let lines: Vec<LineRow> = inventory_reservation_lines::table
        .filter(inventory_reservation_lines::order_id.eq(order_id.get()))
        .order((inventory_reservation_lines::product_id, inventory_reservation_lines::warehouse_id))
        .select(LineRow::as_select())
        .load(conn)?;
    Ok(domain::reservation(row, lines)?)
}

/// All levels of the products. Also those with nothing free are locked: units that come back there while this
/// transaction waits for another one are seen, so nobody is told that a product is out of stock which is not.
fn locked_levels(
    conn: &mut Conn,
    products: impl Iterator<Item = ProductId>,
) -> Result<Vec<StockLevel>, StoreError> {
    let ids: Vec<i64> = products.map(ProductId::get).collect();
    let levels = inventory_stock::table
        .filter(inventory_stock::product_id.eq_any(ids))
        .order((inventory_stock::product_id, inventory_stock::warehouse_id));
    let rows: Vec<LevelRow> = for_update!(conn, levels.select(LevelRow::as_select()), load)?;
    Ok(rows.into_iter().map(domain::level).collect::<Result<_, _>>()?)
}

/// By how much a level changes.
struct Booking {
    on_hand: i64,
    reserved: i64,
}

fn book(conn: &mut Conn, line: &ReservedLine, booking: Booking) -> Result<(), StoreError> {
    let key = (line.product_id.get(), line.warehouse_id.get());
    let booked = diesel::update(inventory_stock::table.find(key))
        .set((
            inventory_stock::on_hand.eq(inventory_stock::on_hand + booking.on_hand),
            inventory_stock::reserved.eq(inventory_stock::reserved + booking.reserved),
        ))
        .execute(conn)?;
    if booked == 0 {
        let what = format!("no stock of product {} in warehouse {}, though some is promised", key.0, key.1);
        return Err(DbError::Corrupt { what }.into());
    }
    Ok(())
}

fn set_status(conn: &mut Conn, order_id: OrderId, status: ReservationStatus) -> QueryResult<()> {
    diesel::update(inventory_reservations::table.find(order_id.get()))
        .set(inventory_reservations::status.eq(status_word(status)))
        .execute(conn)?;
    Ok(())
}
