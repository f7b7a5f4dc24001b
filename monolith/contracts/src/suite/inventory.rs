//! Facts about the inventory port.
//!
//! Invariant: each begins with an empty context whose clock stands still.

use super::{call, call_with_key, done};
use crate::inventory::{
    Adjustment, Inventory, InventoryError, Reservation, ReservationStatus, Reserve, ReservedLine, StockLevel,
    UNITS_MAX, Warehouse, WarehouseDetails,
};
use crate::{KeyReused, OrderId, ProductId, Timestamp, WarehouseId};

/// An empty inventory whose clock stands still.
pub trait InventoryFixture: Send + Sync {
    /// Its port.
    fn inventory(&self) -> &dyn Inventory;
    /// What its clock says.
    fn now(&self) -> Timestamp;
}

/// One asynchronous test per fact of the inventory port, each with the fixture that the given async function makes.
#[macro_export]
macro_rules! inventory_suite {
    ($fixture:path) => {
        $crate::suite_tests!(inventory of $fixture:
            a_confirmed_reservation_does_not_expire,
            a_release_keeps_a_later_reservation_out,
            a_released_reservation_stays_released,
            a_reservation_promises_all_lines_or_none,
            a_reservation_takes_from_the_lowest_warehouse_first,
            a_warehouse_can_be_read_back,
            a_warehouse_code_is_taken_once,
            an_adjustment_leaves_what_is_promised,
            an_inventory_command_takes_effect_once_per_key,
            an_order_without_a_reservation_is_told_so,
            an_unknown_warehouse_is_not_found,
            confirming_takes_the_goods_out_once,
            expired_reservations_are_released_once,
            goods_come_in_and_go_out,
            lines_of_one_product_are_reserved_together,
            listing_walks_all_warehouses_in_order_of_id,
            opening_stock_comes_once,
            opening_stock_needs_no_warehouse,
            releasing_gives_everything_back_once,
            reserving_again_returns_the_same_reservation,
        );
    };
}

const HOUR_MS: i64 = 3_600_000;

fn product(id: i64) -> ProductId {
    done(ProductId::try_from(id))
}

fn order(id: i64) -> OrderId {
    done(OrderId::try_from(id))
}

fn details(code: &str) -> WarehouseDetails {
    WarehouseDetails { code: code.to_owned(), name: format!("Warehouse {code}") }
}

fn delivery(warehouse_id: WarehouseId, of: i64, delta: i64) -> Adjustment {
    Adjustment { warehouse_id, product_id: product(of), delta, reason: "delivery".to_owned() }
}

/// A warehouse for each number, with that many units of product 1.
async fn stocked<const N: usize>(inventory: &dyn Inventory, units: [i64; N]) -> [WarehouseId; N] {
    let mut ids = [done(WarehouseId::try_from(1)); N];
    for ((number, units), id) in (1..).zip(units).zip(&mut ids) {
        *id = done(inventory.add_warehouse(&call(), details(&format!("w{number}"))).await).id;
        if units > 0 {
            done(inventory.adjust(&call(), delivery(*id, 1, units)).await);
        }
    }
    ids
}

/// A wish for units of products that expires in an hour.
fn wish(fixture: &dyn InventoryFixture, order_id: i64, lines: &[(i64, u32)]) -> Reserve {
    let lines = lines.iter().map(|(id, quantity)| (product(*id), *quantity)).collect();
    Reserve { order_id: order(order_id), lines, expires_at: after(fixture, HOUR_MS) }
}

fn after(fixture: &dyn InventoryFixture, millis: i64) -> Timestamp {
    Timestamp::from_millis(fixture.now().as_millis() + millis)
}

/// Units on hand and units promised of a product, by warehouse.
async fn levels(inventory: &dyn Inventory, of: i64) -> Vec<(i64, i64)> {
    let levels = done(inventory.stock(&call(), product(of)).await);
    levels.iter().map(|level| (level.on_hand, level.reserved)).collect()
}

async fn status(inventory: &dyn Inventory, order_id: i64) -> ReservationStatus {
    done(inventory.reservation(&call(), order(order_id)).await).status
}

/// What `add_warehouse` returns is what `warehouse` returns.
pub async fn a_warehouse_can_be_read_back(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    let added = done(inventory.add_warehouse(&call(), details("main")).await);
    let Warehouse { id, code, name } = added.clone();
    assert_eq!((code.as_str(), name.as_str()), ("main", "Warehouse main"));
    assert_eq!(inventory.warehouse(&call(), id).await, Ok(added));
}

/// A code belongs to one warehouse.
pub async fn a_warehouse_code_is_taken_once(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    let main = done(inventory.add_warehouse(&call(), details("main")).await);
    let taken = Err(InventoryError::CodeTaken { code: "main".to_owned() });
    assert_eq!(inventory.add_warehouse(&call(), details("main")).await, taken);
    assert_eq!(done(inventory.warehouses(&call(), None, 9).await).items, [main]);
}

/// Pages join to all warehouses, ascending.
pub async fn listing_walks_all_warehouses_in_order_of_id(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    let ids = stocked(inventory, [0; 5]).await;
    let first = done(inventory.warehouses(&call(), None, 3).await);
    let last = first.items.last().map(|warehouse| warehouse.id);
    let rest = done(inventory.warehouses(&call(), last, 3).await);
    assert_eq!((first.items.len(), first.more, rest.more), (3, true, false));
    let joined: Vec<_> = first.items.iter().chain(&rest.items).map(|warehouse| warehouse.id).collect();
    assert_eq!(joined, ids);
}

/// Reading and filling a warehouse that is not there says so.
pub async fn an_unknown_warehouse_is_not_found(fixture: &dyn InventoryFixture) {
    let (inventory, id) = (fixture.inventory(), done(WarehouseId::try_from(4711)));
    assert_eq!(inventory.warehouse(&call(), id).await, Err(InventoryError::NoSuchWarehouse { id }));
    let refused = inventory.adjust(&call(), delivery(id, 1, 5)).await;
    assert_eq!(refused, Err(InventoryError::NoSuchWarehouse { id }));
    assert_eq!(levels(inventory, 1).await, []);
}

/// An adjustment returns the level after it, and touches that product in that warehouse alone.
pub async fn goods_come_in_and_go_out(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    let [first, second] = stocked(inventory, [5, 3]).await;
    let level = StockLevel { warehouse_id: first, product_id: product(1), on_hand: 1, reserved: 0 };
    assert_eq!(inventory.adjust(&call(), delivery(first, 1, -4)).await, Ok(level));
    let other = StockLevel { warehouse_id: second, on_hand: 3, ..level };
    assert_eq!(inventory.stock(&call(), product(1)).await, Ok(vec![level, other]));
    assert_eq!(inventory.stock(&call(), product(2)).await, Ok(Vec::new()));
}

/// What is promised stays on hand, and a warehouse holds only so much.
pub async fn an_adjustment_leaves_what_is_promised(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    let [id] = stocked(inventory, [5]).await;
    done(inventory.reserve(&call(), wish(fixture, 1, &[(1, 3)])).await);
    for (delta, left) in [(-3, 2), (UNITS_MAX, UNITS_MAX + 5)] {
        let refused = inventory.adjust(&call(), delivery(id, 1, delta)).await;
        assert_eq!(refused, Err(InventoryError::Impossible { left, reserved: 3 }));
    }
    assert_eq!(done(inventory.adjust(&call(), delivery(id, 1, -2)).await).on_hand, 3);
}

/// A command that comes again under its key returns its first result; another one under that key is refused.
pub async fn an_inventory_command_takes_effect_once_per_key(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    let added = done(inventory.add_warehouse(&call_with_key("a", "add main"), details("main")).await);
    assert_eq!(
        inventory.add_warehouse(&call_with_key("a", "add main"), details("main")).await,
        Ok(added.clone())
    );
    let adjusted = done(inventory.adjust(&call_with_key("b", "5 more"), delivery(added.id, 1, 5)).await);
    assert_eq!(inventory.adjust(&call_with_key("b", "5 more"), delivery(added.id, 1, 5)).await, Ok(adjusted));
    let reused = inventory.adjust(&call_with_key("b", "6 more"), delivery(added.id, 1, 6)).await;
    assert_eq!(reused, Err(InventoryError::KeyReused(KeyReused { key: "b".to_owned() })));
    assert_eq!(levels(inventory, 1).await, [(5, 0)]);
}

/// Products get their opening stock in the lowest warehouse, once, and only where they never had any.
pub async fn opening_stock_comes_once(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    stocked(inventory, [0, 7]).await;
    let products = vec![product(2), product(1), product(2)];
    assert_eq!(inventory.ensure_stock(&call(), products.clone(), 10).await, Ok(1));
    assert_eq!(inventory.ensure_stock(&call(), products, 10).await, Ok(0));
    assert_eq!((levels(inventory, 1).await, levels(inventory, 2).await), (vec![(7, 0)], vec![(10, 0)]));
}

/// Where there is no warehouse yet, `main` is added.
pub async fn opening_stock_needs_no_warehouse(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    assert_eq!(inventory.ensure_stock(&call(), vec![product(1)], 10).await, Ok(1));
    let warehouses = done(inventory.warehouses(&call(), None, 9).await).items;
    assert_eq!(warehouses.iter().map(|each| each.code.as_str()).collect::<Vec<_>>(), ["main"]);
    assert_eq!(levels(inventory, 1).await, [(10, 0)]);
}

/// The lowest warehouse gives first; the next one what is still missing.
pub async fn a_reservation_takes_from_the_lowest_warehouse_first(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    let [first, second, _] = stocked(inventory, [5, 3, 4]).await;
    let wish = wish(fixture, 1, &[(1, 7)]);
    let line = |warehouse_id, quantity| ReservedLine { warehouse_id, product_id: product(1), quantity };
    let expected = Reservation {
        order_id: order(1),
        status: ReservationStatus::Held,
        lines: vec![line(first, 5), line(second, 2)],
        expires_at: wish.expires_at,
    };
    assert_eq!(inventory.reserve(&call(), wish).await, Ok(expected.clone()));
    assert_eq!(inventory.reservation(&call(), order(1)).await, Ok(expected));
    assert_eq!(levels(inventory, 1).await, [(5, 5), (3, 2), (4, 0)]);
}

/// One line too many, and nothing is promised; the order may try again.
pub async fn a_reservation_promises_all_lines_or_none(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    let [first, second] = stocked(inventory, [5, 3]).await;
    done(inventory.adjust(&call(), delivery(first, 2, 1)).await);
    done(inventory.adjust(&call(), delivery(second, 2, 1)).await);
    let refused = inventory.reserve(&call(), wish(fixture, 1, &[(1, 6), (2, 3)])).await;
    assert_eq!(refused, Err(InventoryError::OutOfStock { product_id: product(2), wanted: 3, available: 2 }));
    let unknown = inventory.reserve(&call(), wish(fixture, 1, &[(3, 1)])).await;
    assert_eq!(unknown, Err(InventoryError::OutOfStock { product_id: product(3), wanted: 1, available: 0 }));
    assert_eq!(
        (levels(inventory, 1).await, levels(inventory, 2).await),
        (vec![(5, 0), (3, 0)], vec![(1, 0), (1, 0)])
    );
    done(inventory.reserve(&call(), wish(fixture, 1, &[(1, 6), (2, 2)])).await);
}

/// A product that stands twice counts with its sum.
pub async fn lines_of_one_product_are_reserved_together(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    stocked(inventory, [5]).await;
    let refused = inventory.reserve(&call(), wish(fixture, 1, &[(1, 3), (1, 3)])).await;
    assert_eq!(refused, Err(InventoryError::OutOfStock { product_id: product(1), wanted: 6, available: 5 }));
    let reserved = done(inventory.reserve(&call(), wish(fixture, 1, &[(1, 3), (1, 2)])).await);
    assert_eq!(reserved.lines.iter().map(|line| line.quantity).collect::<Vec<_>>(), [5]);
}

/// Whatever the repeat wishes for, the order has one reservation, also once it is confirmed.
pub async fn reserving_again_returns_the_same_reservation(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    stocked(inventory, [5]).await;
    let held = done(inventory.reserve(&call(), wish(fixture, 1, &[(1, 3)])).await);
    assert_eq!(inventory.reserve(&call(), wish(fixture, 1, &[(1, 3)])).await, Ok(held.clone()));
    assert_eq!(inventory.reserve(&call(), wish(fixture, 1, &[(1, 9)])).await, Ok(held));
    let confirmed = done(inventory.confirm(&call(), order(1)).await);
    assert_eq!(inventory.reserve(&call(), wish(fixture, 1, &[(1, 3)])).await, Ok(confirmed));
    assert_eq!(levels(inventory, 1).await, [(2, 0)]);
}

/// Reading and confirming what was never reserved says so.
pub async fn an_order_without_a_reservation_is_told_so(fixture: &dyn InventoryFixture) {
    let (inventory, order_id) = (fixture.inventory(), order(4711));
    let missing = InventoryError::NoReservation { order_id };
    assert_eq!(inventory.reservation(&call(), order_id).await, Err(missing.clone()));
    assert_eq!(inventory.confirm(&call(), order_id).await, Err(missing));
}

/// A confirmation takes out what was promised, also when it comes twice.
pub async fn confirming_takes_the_goods_out_once(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    stocked(inventory, [5, 3]).await;
    let held = done(inventory.reserve(&call(), wish(fixture, 1, &[(1, 6)])).await);
    let confirmed = Reservation { status: ReservationStatus::Confirmed, ..held };
    for _ in 0..2 {
        assert_eq!(inventory.confirm(&call(), order(1)).await, Ok(confirmed.clone()));
        assert_eq!(levels(inventory, 1).await, [(0, 0), (2, 0)]);
    }
    assert_eq!(inventory.reservation(&call(), order(1)).await, Ok(confirmed));
}

/// A release gives back what was held and what was confirmed, also when it comes twice.
pub async fn releasing_gives_everything_back_once(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    stocked(inventory, [5, 3]).await;
    done(inventory.reserve(&call(), wish(fixture, 1, &[(1, 4)])).await);
    done(inventory.reserve(&call(), wish(fixture, 2, &[(1, 3)])).await);
    done(inventory.confirm(&call(), order(2)).await);
    assert_eq!(levels(inventory, 1).await, [(4, 4), (1, 0)]);
    for _ in 0..2 {
        assert_eq!(inventory.release(&call(), order(1)).await, Ok(()));
        assert_eq!(levels(inventory, 1).await, [(4, 0), (1, 0)]);
    }
    for _ in 0..2 {
        assert_eq!(inventory.release(&call(), order(2)).await, Ok(()));
        assert_eq!(levels(inventory, 1).await, [(5, 0), (3, 0)]);
    }
}

/// After a release the order's reservation is refused, confirmation included.
pub async fn a_released_reservation_stays_released(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    stocked(inventory, [5]).await;
    done(inventory.reserve(&call(), wish(fixture, 1, &[(1, 4)])).await);
    done(inventory.release(&call(), order(1)).await);
    let released = InventoryError::Released { order_id: order(1) };
    assert_eq!(inventory.confirm(&call(), order(1)).await, Err(released.clone()));
    assert_eq!(inventory.reserve(&call(), wish(fixture, 1, &[(1, 4)])).await, Err(released));
    assert_eq!(status(inventory, 1).await, ReservationStatus::Released);
    assert_eq!(levels(inventory, 1).await, [(5, 0)]);
}

/// A release succeeds where nothing was reserved, and keeps a reservation out that comes late.
pub async fn a_release_keeps_a_later_reservation_out(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    stocked(inventory, [5]).await;
    for _ in 0..2 {
        assert_eq!(inventory.release(&call(), order(1)).await, Ok(()));
    }
    let late = inventory.reserve(&call(), wish(fixture, 1, &[(1, 4)])).await;
    assert_eq!(late, Err(InventoryError::Released { order_id: order(1) }));
    let tombstone = done(inventory.reservation(&call(), order(1)).await);
    assert_eq!((tombstone.status, tombstone.lines), (ReservationStatus::Released, Vec::new()));
    assert_eq!(levels(inventory, 1).await, [(5, 0)]);
}

/// What has expired goes back, once, the longest expired first and at most as many as asked for.
pub async fn expired_reservations_are_released_once(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    stocked(inventory, [9]).await;
    for (order_id, expires_in) in [(1, 1), (2, 0), (3, -HOUR_MS), (4, -1)] {
        let wish = Reserve { expires_at: after(fixture, expires_in), ..wish(fixture, order_id, &[(1, 2)]) };
        done(inventory.reserve(&call(), wish).await);
    }
    assert_eq!(inventory.expire(&call(), 2).await, Ok(2));
    assert_eq!(
        (levels(inventory, 1).await, status(inventory, 2).await),
        (vec![(9, 4)], ReservationStatus::Held)
    );
    assert_eq!(inventory.expire(&call(), 9).await, Ok(1));
    assert_eq!(inventory.expire(&call(), 9).await, Ok(0));
    assert_eq!(
        (levels(inventory, 1).await, status(inventory, 1).await),
        (vec![(9, 2)], ReservationStatus::Held)
    );
    let late = inventory.confirm(&call(), order(3)).await;
    assert_eq!(late, Err(InventoryError::Released { order_id: order(3) }));
}

/// As long as nobody has released it, an expired reservation can be confirmed, and then never expires.
pub async fn a_confirmed_reservation_does_not_expire(fixture: &dyn InventoryFixture) {
    let inventory = fixture.inventory();
    stocked(inventory, [5]).await;
    let wish = Reserve { expires_at: after(fixture, -1), ..wish(fixture, 1, &[(1, 2)]) };
    done(inventory.reserve(&call(), wish).await);
    done(inventory.confirm(&call(), order(1)).await);
    assert_eq!(inventory.expire(&call(), 9).await, Ok(0));
    assert_eq!(
        (levels(inventory, 1).await, status(inventory, 1).await),
        (vec![(3, 0)], ReservationStatus::Confirmed)
    );
}
