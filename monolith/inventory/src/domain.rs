//! From which warehouses a reservation takes its units, and the forms in which the tables hold stock and reservations.
//!
//! Invariant: [`allocate`] gives every unit that is wanted from units that are free, or nothing at all.

use std::collections::BTreeMap;

use contracts::inventory::{
    InventoryError, Reservation, ReservationStatus, ReservedLine, StockLevel, UNITS_MAX, Warehouse,
};
use contracts::{IdError, OrderId, ProductId, Timestamp, WarehouseId};
use diesel::prelude::{Insertable, Queryable, Selectable};

use crate::schema::{
    inventory_reservation_lines, inventory_reservations, inventory_stock, inventory_warehouses,
};

/// How many units of each product are wanted; a product that stands twice in the lines counts with its sum.
pub(crate) fn wanted(lines: &[(ProductId, u32)]) -> BTreeMap<ProductId, u64> {
    let mut wanted = BTreeMap::new();
    for (product_id, quantity) in lines.iter().filter(|(_, quantity)| *quantity > 0) {
        *wanted.entry(*product_id).or_default() += u64::from(*quantity);
    }
    wanted
}

/// What to take from where, by product and warehouse: from the lowest warehouse first, and from the next what is still
/// missing. The levels may come in any order.
pub(crate) fn allocate(
    wanted: &BTreeMap<ProductId, u64>,
    levels: &[StockLevel],
) -> Result<Vec<ReservedLine>, InventoryError> {
    let mut free = BTreeMap::<ProductId, BTreeMap<WarehouseId, u32>>::new();
    for level in levels {
        free.entry(level.product_id).or_default().insert(level.warehouse_id, free_units(level));
    }
    let mut lines = Vec::new();
    for (&product_id, &wanted) in wanted {
        let mut missing = wanted;
        for (&warehouse_id, &units) in free.get(&product_id).into_iter().flatten() {
            // What does not fit is more than what is free.
            let quantity = u32::try_from(missing).unwrap_or(u32::MAX).min(units);
            if quantity > 0 {
                lines.push(ReservedLine { warehouse_id, product_id, quantity });
                missing -= u64::from(quantity);
            }
        }
        if missing > 0 {
            return Err(InventoryError::OutOfStock { product_id, wanted, available: wanted - missing });
        }
    }
    Ok(lines)
}

/// Units that are not promised, as many as one line can take.
fn free_units(level: &StockLevel) -> u32 {
    let free = level.on_hand.saturating_sub(level.reserved).max(0);
    u32::try_from(free).unwrap_or(u32::MAX)
}

/// The level after goods came in or went.
pub(crate) fn adjusted(level: StockLevel, delta: i64) -> Result<StockLevel, InventoryError> {
    let left = level.on_hand.saturating_add(delta);
    // Goods that came back from orders may have filled a warehouse beyond its limit; it may still be emptied.
    if left < level.reserved || (left > UNITS_MAX && delta > 0) {
        return Err(InventoryError::Impossible { left, reserved: level.reserved });
    }
    Ok(StockLevel { on_hand: left, ..level })
}

/// Why a row is not one that this program wrote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error("an id")]
    Id(#[from] IdError),
    #[error("a quantity")]
    Quantity(#[from] std::num::TryFromIntError),
    #[error("the status `{0}`")]
    Status(String),
}

/// One row of `inventory_warehouses`.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = inventory_warehouses)]
pub(crate) struct WarehouseRow {
    id: i64,
    code: String,
    name: String,
}

/// One row of `inventory_stock`.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = inventory_stock)]
pub(crate) struct LevelRow {
    product_id: i64,
    warehouse_id: i64,
    on_hand: i64,
    reserved: i64,
}

/// One row of `inventory_reservations`.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = inventory_reservations)]
pub(crate) struct ReservationRow {
    order_id: i64,
    status: String,
    expires_at_ms: i64,
}

/// One row of `inventory_reservation_lines`.
#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = inventory_reservation_lines)]
pub(crate) struct LineRow {
    order_id: i64,
    product_id: i64,
    warehouse_id: i64,
    quantity: i64,
}

/// The warehouse of a row.
pub(crate) fn warehouse(row: WarehouseRow) -> Result<Warehouse, RowError> {
    Ok(Warehouse { id: row.id.try_into()?, code: row.code, name: row.name })
}

/// The level of a row.
pub(crate) fn level(row: LevelRow) -> Result<StockLevel, RowError> {
    Ok(StockLevel {
        warehouse_id: row.warehouse_id.try_into()?,
        product_id: row.product_id.try_into()?,
        on_hand: row.on_hand,
        reserved: row.reserved,
    })
}

/// The reservation of a row and its lines.
pub(crate) fn reservation(row: ReservationRow, lines: Vec<LineRow>) -> Result<Reservation, RowError> {
    let lines = lines.into_iter().map(reserved_line).collect::<Result<_, _>>()?;
    Ok(Reservation {
        order_id: row.order_id.try_into()?,
        status: status(row.status)?,
        lines,
        expires_at: Timestamp::from_millis(row.expires_at_ms),
    })
}

/// The row of a line.
pub(crate) fn line_row(order_id: OrderId, line: &ReservedLine) -> LineRow {
    LineRow {
        order_id: order_id.get(),
        product_id: line.product_id.get(),
        warehouse_id: line.warehouse_id.get(),
        quantity: i64::from(line.quantity),
    }
}

/// The column's word for a status.
pub(crate) fn status_word(status: ReservationStatus) -> &'static str {
    match status {
        ReservationStatus::Held => "held",
        ReservationStatus::Confirmed => "confirmed",
        ReservationStatus::Released => "released",
    }
}

fn status(word: String) -> Result<ReservationStatus, RowError> {
    let all = [ReservationStatus::Held, ReservationStatus::Confirmed, ReservationStatus::Released];
    all.into_iter().find(|status| status_word(*status) == word).ok_or(RowError::Status(word))
}

fn reserved_line(row: LineRow) -> Result<ReservedLine, RowError> {
    Ok(ReservedLine {
        warehouse_id: row.warehouse_id.try_into()?,
        product_id: row.product_id.try_into()?,
        quantity: row.quantity.try_into()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn product(id: i64) -> ProductId {
        id.try_into().unwrap()
    }

    fn level(warehouse: i64, of: i64, on_hand: i64, reserved: i64) -> StockLevel {
        let (warehouse_id, product_id) = (warehouse.try_into().unwrap(), product(of));
        StockLevel { warehouse_id, product_id, on_hand, reserved }
    }

    fn levels() -> impl Strategy<Value = Vec<StockLevel>> {
        let units = (0..6_i64, 0..6_i64).prop_map(|(free, reserved)| (free + reserved, reserved));
        let rows = prop::collection::btree_map((1..4_i64, 1..4_i64), units, 0..9);
        let levels = rows.prop_map(|rows| {
            let levels = rows.into_iter();
            levels.map(|((place, of), (on_hand, reserved))| level(place, of, on_hand, reserved)).collect()
        });
        Strategy::prop_shuffle(levels)
    }

    fn lines() -> impl Strategy<Value = Vec<(ProductId, u32)>> {
        prop::collection::vec((1..4_i64, 0..7_u32).prop_map(|(id, quantity)| (product(id), quantity)), 0..5)
    }

    fn free(levels: &[StockLevel], product_id: ProductId) -> u64 {
        let of_it = levels.iter().filter(|level| level.product_id == product_id);
        of_it.map(|level| u64::from(free_units(level))).sum()
    }

    proptest! {
        #[test]
        fn an_allocation_gives_what_is_wanted_and_takes_only_what_is_free(levels in levels(), lines in lines()) {
            let wanted = wanted(&lines);
            match allocate(&wanted, &levels) {
                Ok(taken) => {
                    let mut given = BTreeMap::new();
                    for line in &taken {
                        *given.entry(line.product_id).or_default() += u64::from(line.quantity);
                        let from = levels.iter().find(|level| {
                            (level.product_id, level.warehouse_id) == (line.product_id, line.warehouse_id)
                        });
                        prop_assert!(line.quantity > 0 && line.quantity <= from.map_or(0, free_units));
                    }
                    prop_assert_eq!(given, wanted);
                }
                Err(InventoryError::OutOfStock { product_id, wanted: units, available }) => {
                    prop_assert_eq!((units, available), (wanted[&product_id], free(&levels, product_id)));
                    prop_assert!(available < units);
                }
                Err(error) => prop_assert!(false, "{error}"),
            }
        }

        #[test]
        fn an_allocation_goes_to_the_next_warehouse_only_once_the_lower_ones_are_empty(
            levels in levels(),
            lines in lines(),
        ) {
            let taken = allocate(&wanted(&lines), &levels).unwrap_or_default();
            let place = |line: &ReservedLine| (line.product_id, line.warehouse_id);
            prop_assert!(taken.is_sorted_by(|earlier, later| place(earlier) < place(later)));
            for pair in taken.windows(2).filter(|pair| pair[0].product_id == pair[1].product_id) {
                let lower = levels.iter().filter(|level| {
                    level.product_id == pair[1].product_id && level.warehouse_id < pair[1].warehouse_id
                });
                for level in lower {
                    let emptied = taken.iter().find(|line| {
                        place(line) == (level.product_id, level.warehouse_id)
                    });
                    prop_assert_eq!(emptied.map_or(0, |line| line.quantity), free_units(level));
                }
            }
        }
    }

    #[test]
    fn an_adjustment_stays_between_what_is_promised_and_the_limit() {
        let level = level(1, 1, UNITS_MAX - 5, 3);
        assert_eq!(adjusted(level, 5).unwrap().on_hand, UNITS_MAX);
        assert_eq!(adjusted(level, 8 - UNITS_MAX).unwrap().on_hand, 3);
        for (delta, left) in [(6, UNITS_MAX + 1), (7 - UNITS_MAX, 2)] {
            assert_eq!(adjusted(level, delta), Err(InventoryError::Impossible { left, reserved: 3 }));
        }
    }

    #[test]
    fn a_warehouse_filled_beyond_the_limit_by_returns_may_be_emptied() {
        let level = level(1, 1, UNITS_MAX + 9, 0);
        assert_eq!(adjusted(level, -1).unwrap().on_hand, UNITS_MAX + 8);
        assert!(adjusted(level, 1).is_err());
    }

    #[test]
    fn every_status_survives_being_a_word() {
        for each in [ReservationStatus::Held, ReservationStatus::Confirmed, ReservationStatus::Released] {
            assert_eq!(status(status_word(each).to_owned()).unwrap(), each);
        }
        assert!(status("gone".to_owned()).is_err());
    }
}
