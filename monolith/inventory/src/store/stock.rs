//! Warehouses, and what lies in them.
//!
//! Invariant: what came in or went by other ways than an order stands in the journal, in the same transaction.

use std::collections::BTreeSet;

use contracts::inventory::{Adjustment, InventoryError, StockLevel, UNITS_MAX, Warehouse, WarehouseDetails};
use contracts::{Page, ProductId, Timestamp, WarehouseId};
use db::{Conn, for_update, on_each};
use diesel::dsl::exists;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl, SelectableHelper};

use super::StoreError;
use crate::domain::{self, LevelRow, WarehouseRow};
use crate::schema::{inventory_adjustments, inventory_stock, inventory_warehouses};

/// What the journal says of goods that were there before anybody counted.
const OPENING: &str = "opening stock";

/// Who changed the stock, and when.
pub(crate) struct Entry {
    pub(crate) request_id: String,
    pub(crate) now: Timestamp,
}

pub(crate) fn add_warehouse(conn: &mut Conn, details: WarehouseDetails) -> Result<Warehouse, StoreError> {
    let WarehouseDetails { code, name } = details;
    let inserted = diesel::insert_into(inventory_warehouses::table)
        .values((inventory_warehouses::code.eq(&code), inventory_warehouses::name.eq(&name)))
        .returning(inventory_warehouses::all_columns)
        .get_result::<WarehouseRow>(conn);
    match inserted {
        Ok(row) => Ok(domain::warehouse(row)?),
        // The only unique value that a client sets is the code.
        Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
            Err(InventoryError::CodeTaken { code }.into())
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn warehouse(conn: &mut Conn, id: WarehouseId) -> Result<Warehouse, StoreError> {
    let row = inventory_warehouses::table.find(id.get()).select(WarehouseRow::as_select()).get_result(conn);
    Ok(domain::warehouse(row.optional()?.ok_or(InventoryError::NoSuchWarehouse { id })?)?)
}

pub(crate) fn warehouses(
    conn: &mut Conn,
    after: Option<WarehouseId>,
    limit: u32,
) -> Result<Page<Warehouse>, StoreError> {
    let rows: Vec<WarehouseRow> = inventory_warehouses::table
        .filter(inventory_warehouses::id.gt(after.map_or(0, WarehouseId::get)))
        .order(inventory_warehouses::id)
        .limit(i64::from(limit) + 1)
        .select(WarehouseRow::as_select())
        .load(conn)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    let items = rows.into_iter().take(limit).map(domain::warehouse).collect::<Result<_, _>>()?;
    Ok(Page { items, more })
}

pub(crate) fn stock(conn: &mut Conn, product_id: ProductId) -> Result<Vec<StockLevel>, StoreError> {
    let rows: Vec<LevelRow> = inventory_stock::table
        .filter(inventory_stock::product_id.eq(product_id.get()))
        .order(inventory_stock::warehouse_id)
        .select(LevelRow::as_select())
        .load(conn)?;
    Ok(rows.into_iter().map(domain::level).collect::<Result<_, _>>()?)
}

pub(crate) fn adjust(
    conn: &mut Conn,
    adjustment: &Adjustment,
    entry: &Entry,
) -> Result<StockLevel, StoreError> {
    let &Adjustment { warehouse_id, product_id, delta, .. } = adjustment;
    warehouse(conn, warehouse_id)?;
    add_level(conn, StockLevel { warehouse_id, product_id, on_hand: 0, reserved: 0 })?;
    let row = inventory_stock::table.find((product_id.get(), warehouse_id.get()));
    let before: LevelRow = for_update!(conn, row.select(LevelRow::as_select()), get_result)?;
    let after = domain::adjusted(domain::level(before)?, delta)?;
    diesel::update(row).set(inventory_stock::on_hand.eq(after.on_hand)).execute(conn)?;
    keep(conn, adjustment, entry)?;
    Ok(after)
}

pub(crate) fn ensure_stock(
    conn: &mut Conn,
    products: Vec<ProductId>,
    units: u32,
    entry: &Entry,
) -> Result<u64, StoreError> {
    let units = i64::from(units);
    if units > UNITS_MAX {
        return Err(InventoryError::Impossible { left: units, reserved: 0 }.into());
    }
    if units == 0 {
        return Ok(0);
    }
    let warehouse_id = first_warehouse(conn)?;
    let mut stocked = 0;
    // In the order of ids, since a second call at the same time waits for the rows of this one.
    for product_id in products.into_iter().collect::<BTreeSet<_>>() {
        if has_level(conn, product_id)?
            || !add_level(conn, StockLevel { warehouse_id, product_id, on_hand: units, reserved: 0 })?
        {
            continue;
        }
        let opening = Adjustment { warehouse_id, product_id, delta: units, reason: OPENING.to_owned() };
        keep(conn, &opening, entry)?;
        stocked += 1;
    }
    Ok(stocked)
}

/// The warehouse with the lowest id; `main`, where there is none yet.
fn first_warehouse(conn: &mut Conn) -> Result<WarehouseId, StoreError> {
    loop {
        let page = warehouses(conn, None, 1)?;
        if let Some(first) = page.items.first() {
            return Ok(first.id);
        }
        on_each!(conn, |conn| {
            diesel::insert_into(inventory_warehouses::table)
                .values((inventory_warehouses::code.eq("main"), inventory_warehouses::name.eq("Main")))
                .on_conflict_do_nothing()
                .execute(conn)?
        });
    }
}

/// Whether the product lies anywhere, or ever did.
fn has_level(conn: &mut Conn, product_id: ProductId) -> QueryResult<bool> {
    let levels = inventory_stock::table.filter(inventory_stock::product_id.eq(product_id.get()));
    diesel::select(exists(levels)).get_result(conn)
}

/// Adds the level unless the product is known in the warehouse, and says whether it did.
fn add_level(conn: &mut Conn, level: StockLevel) -> QueryResult<bool> {
    let row = (
        inventory_stock::product_id.eq(level.product_id.get()),
        inventory_stock::warehouse_id.eq(level.warehouse_id.get()),
        inventory_stock::on_hand.eq(level.on_hand),
        inventory_stock::reserved.eq(level.reserved),
    );
    let added = on_each!(conn, |conn| {
        diesel::insert_into(inventory_stock::table).values(row).on_conflict_do_nothing().execute(conn)?
    });
    Ok(added > 0)
}

fn keep(conn: &mut Conn, adjustment: &Adjustment, entry: &Entry) -> QueryResult<()> {
    diesel::insert_into(inventory_adjustments::table)
        .values((
            inventory_adjustments::product_id.eq(adjustment.product_id.get()),
            inventory_adjustments::warehouse_id.eq(adjustment.warehouse_id.get()),
            inventory_adjustments::delta.eq(adjustment.delta),
            inventory_adjustments::reason.eq(&adjustment.reason),
            inventory_adjustments::request_id.eq(&entry.request_id),
            inventory_adjustments::adjusted_at_ms.eq(entry.now.as_millis()),
        ))
        .execute(conn)?;
    Ok(())
}
