//! The statements of the context. Each function belongs inside a transaction of its caller.
//!
//! Invariant: a shipment's status is that of its last step, and both change in one transaction.

use contracts::shipping::{Schedule, Shipment, ShipmentStatus, ShipmentStep, ShippingError};
use contracts::{KeyReused, OrderId, Timestamp};
use db::{Conn, DbError, for_update, on_each};
use diesel::result::Error;
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl, SelectableHelper};

use crate::domain::{self, Move, RowError, ShipmentRow, StepRow, status_word};
use crate::schema::{shipping_shipments, shipping_steps};

/// What stops a use case.
#[derive(Debug)]
pub(crate) enum StoreError {
    Shipping(ShippingError),
    Database(DbError),
}

impl From<ShippingError> for StoreError {
    fn from(error: ShippingError) -> Self {
        Self::Shipping(error)
    }
}

impl From<KeyReused> for StoreError {
    fn from(error: KeyReused) -> Self {
        Self::Shipping(error.into())
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
        Self::Database(DbError::Corrupt { what: format!("a shipment with {error} in another form") })
    }
}

pub(crate) fn schedule(conn: &mut Conn, schedule: &Schedule, now: Timestamp) -> Result<Shipment, StoreError> {
    let order_id = schedule.order_id;
    if add(conn, &domain::scheduled_row(schedule)?)? {
        add_step(conn, order_id, ShipmentStep { status: ShipmentStatus::Scheduled, at: now })?;
    }
    let shipment = track(conn, order_id)?;
    if shipment.status == ShipmentStatus::Stopped {
        return Err(ShippingError::Stopped { order_id }.into());
    }
    Ok(shipment)
}

/// Where there is no shipment, leaves one that is stopped already, so that none can come later.
pub(crate) fn stop(conn: &mut Conn, order_id: OrderId, now: Timestamp) -> Result<(), StoreError> {
    let stopped = ShipmentStep { status: ShipmentStatus::Stopped, at: now };
    if add(conn, &domain::tombstone_row(order_id))? {
        return Ok(add_step(conn, order_id, stopped)?);
    }
    match domain::stop(order_id, locked(conn, order_id)?.status)? {
        Move::Step => Ok(go(conn, order_id, stopped)?),
        Move::Repeat => Ok(()),
    }
}

pub(crate) fn advance(
    conn: &mut Conn,
    order_id: OrderId,
    step: ShipmentStep,
) -> Result<Shipment, StoreError> {
    let mut shipment = locked(conn, order_id)?;
    if domain::advance(order_id, shipment.status, step.status)? == Move::Step {
        go(conn, order_id, step)?;
        shipment.status = step.status;
        shipment.steps.push(step);
    }
    Ok(shipment)
}

pub(crate) fn track(conn: &mut Conn, order_id: OrderId) -> Result<Shipment, StoreError> {
    let row = shipping_shipments::table
        .find(order_id.get())
        .select(ShipmentRow::as_select())
        .get_result(conn)
        .optional()?;
    with_steps(conn, order_id, row)
}

/// Adds the shipment unless the order has one, and says whether it did. In PostgreSQL it first waits for whoever is about
/// to add one.
fn add(conn: &mut Conn, row: &ShipmentRow) -> QueryResult<bool> {
    let added = on_each!(conn, |conn| {
        diesel::insert_into(shipping_shipments::table)
            .values(row)
            // Another order's tracking code must not pass for this order's shipment.
            .on_conflict(shipping_shipments::order_id)
            .do_nothing()
            .execute(conn)?
    });
    Ok(added > 0)
}

/// The shipment, which changes by nobody else's hand before the transaction ends.
fn locked(conn: &mut Conn, order_id: OrderId) -> Result<Shipment, StoreError> {
    let rows = shipping_shipments::table.find(order_id.get());
    let row: QueryResult<ShipmentRow> = for_update!(conn, rows.select(ShipmentRow::as_select()), get_result);
    with_steps(conn, order_id, row.optional()?)
}

fn with_steps(conn: &mut Conn, order_id: OrderId, row: Option<ShipmentRow>) -> Result<Shipment, StoreError> {
    let row = row.ok_or(ShippingError::NotFound { order_id })?;
    let steps: Vec<StepRow> = shipping_steps::table
        .filter(shipping_steps::order_id.eq(order_id.get()))
        .select(StepRow::as_select())
        .load(conn)?;
    Ok(domain::shipment(row, steps)?)
}

fn go(conn: &mut Conn, order_id: OrderId, step: ShipmentStep) -> QueryResult<()> {
    diesel::update(shipping_shipments::table.find(order_id.get()))
        .set(shipping_shipments::status.eq(status_word(step.status)))
        .execute(conn)?;
    add_step(conn, order_id, step)
}

fn add_step(conn: &mut Conn, order_id: OrderId, step: ShipmentStep) -> QueryResult<()> {
    diesel::insert_into(shipping_steps::table).values(domain::step_row(order_id, step)).execute(conn)?;
    Ok(())
}
