//! An inventory in memory.
//!
//! Invariant: shows every fact of the port's suite.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Commands, EPOCH, Keys, Mishap, page};
use crate::inventory::{
    Adjustment, CONTEXT, Inventory, InventoryError, Reservation, ReservationStatus, Reserve, ReservedLine,
    StockLevel, UNITS_MAX, Warehouse, WarehouseDetails,
};
use crate::{CallContext, OrderId, Page, ProductId, Timestamp, Unavailable, WarehouseId};

/// An inventory in memory, whose clock stands still at [`FakeInventory::NOW`].
#[derive(Debug, Default)]
pub struct FakeInventory {
    state: Mutex<State>,
    keys: Keys,
    commands: Commands,
}

#[derive(Debug, Default)]
struct State {
    warehouses: BTreeMap<WarehouseId, Warehouse>,
    levels: BTreeMap<(ProductId, WarehouseId), StockLevel>,
    reservations: BTreeMap<OrderId, Reservation>,
}

impl FakeInventory {
    /// When everything happens.
    pub const NOW: Timestamp = EPOCH;

    /// The next call of this command (`reserve`, `confirm` or `release`) ends like this; several are used up in turn.
    /// A refusal is [`InventoryError::Released`].
    pub fn befall(&self, command: &'static str, mishap: Mishap) {
        self.commands.befall(command, mishap);
    }

    /// How often this command was called, mishaps included.
    pub fn calls(&self, command: &str) -> u64 {
        self.commands.calls(command)
    }

    /// Units on hand and units promised, over all products and warehouses.
    pub fn units(&self) -> (i64, i64) {
        let state = self.state();
        state
            .levels
            .values()
            .fold((0, 0), |(on_hand, reserved), level| (on_hand + level.on_hand, reserved + level.reserved))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<T>(
        &self,
        command: &'static str,
        order_id: OrderId,
        work: impl FnOnce(&mut State) -> Result<T, InventoryError>,
    ) -> Result<T, InventoryError> {
        let refused = |_| InventoryError::Released { order_id };
        self.commands.run((CONTEXT, command), refused, || work(&mut self.state()))
    }
}

impl State {
    fn add_warehouse(&mut self, details: WarehouseDetails) -> Result<Warehouse, InventoryError> {
        let WarehouseDetails { code, name } = details;
        if self.warehouses.values().any(|warehouse| warehouse.code == code) {
            return Err(InventoryError::CodeTaken { code });
        }
        let number = i64::try_from(self.warehouses.len()).unwrap_or(i64::MAX).saturating_add(1);
        let id = WarehouseId::try_from(number).map_err(|error| Unavailable {
            context: CONTEXT.to_owned(),
            reason: error.to_string(),
            maybe_done: false,
        })?;
        let warehouse = Warehouse { id, code, name };
        self.warehouses.insert(id, warehouse.clone());
        Ok(warehouse)
    }

    fn adjust(&mut self, adjustment: &Adjustment) -> Result<StockLevel, InventoryError> {
        let &Adjustment { warehouse_id, product_id, delta, .. } = adjustment;
        if !self.warehouses.contains_key(&warehouse_id) {
            return Err(InventoryError::NoSuchWarehouse { id: warehouse_id });
        }
        let none = StockLevel { warehouse_id, product_id, on_hand: 0, reserved: 0 };
        let mut level = self.levels.get(&(product_id, warehouse_id)).copied().unwrap_or(none);
        level.on_hand += delta;
        if !(level.reserved..=UNITS_MAX).contains(&level.on_hand) {
            return Err(InventoryError::Impossible { left: level.on_hand, reserved: level.reserved });
        }
        self.levels.insert((product_id, warehouse_id), level);
        Ok(level)
    }

    fn ensure_stock(&mut self, products: Vec<ProductId>, units: u32) -> Result<u64, InventoryError> {
        let warehouse_id = match self.warehouses.keys().next() {
            Some(first) => *first,
            None => {
                let (code, name) = ("main".to_owned(), "Main".to_owned());
                self.add_warehouse(WarehouseDetails { code, name })?.id
            }
        };
        let mut stocked = 0;
        for product_id in products.into_iter().collect::<BTreeSet<_>>() {
            if units > 0 && self.stock(product_id).next().is_none() {
                let (delta, reason) = (i64::from(units), String::new());
                self.adjust(&Adjustment { warehouse_id, product_id, delta, reason })?;
                stocked += 1;
            }
        }
        Ok(stocked)
    }

    fn stock(&self, product_id: ProductId) -> impl Iterator<Item = StockLevel> {
        self.levels.values().filter(move |level| level.product_id == product_id).copied()
    }

    fn reserve(&mut self, wish: &Reserve) -> Result<Reservation, InventoryError> {
        let order_id = wish.order_id;
        if let Some(there) = self.reservations.get(&order_id) {
            return match there.status {
                ReservationStatus::Released => Err(InventoryError::Released { order_id }),
                _ => Ok(there.clone()),
            };
        }
        let mut wanted = BTreeMap::<ProductId, u64>::new();
        for (product_id, quantity) in &wish.lines {
            *wanted.entry(*product_id).or_default() += u64::from(*quantity);
        }
        let mut lines = Vec::new();
        for (product_id, wanted) in wanted {
            let mut missing = wanted;
            for StockLevel { warehouse_id, on_hand, reserved, .. } in self.stock(product_id) {
                let free = u64::try_from(on_hand - reserved).unwrap_or(0);
                let quantity = u32::try_from(free.min(missing)).unwrap_or(u32::MAX);
                missing -= u64::from(quantity);
                lines.push(ReservedLine { warehouse_id, product_id, quantity });
            }
            if missing > 0 {
                return Err(InventoryError::OutOfStock { product_id, wanted, available: wanted - missing });
            }
        }
        lines.retain(|line| line.quantity > 0);
        self.book(&lines, 0, 1);
        let (status, expires_at) = (ReservationStatus::Held, wish.expires_at);
        let reservation = Reservation { order_id, status, lines, expires_at };
        self.reservations.insert(order_id, reservation.clone());
        Ok(reservation)
    }

    fn confirm(&mut self, order_id: OrderId) -> Result<Reservation, InventoryError> {
        let mut reservation = self.reservation(order_id)?;
        match reservation.status {
            ReservationStatus::Held => self.book(&reservation.lines, -1, -1),
            ReservationStatus::Confirmed => return Ok(reservation),
            ReservationStatus::Released => return Err(InventoryError::Released { order_id }),
        }
        reservation.status = ReservationStatus::Confirmed;
        self.reservations.insert(order_id, reservation.clone());
        Ok(reservation)
    }

    fn release(&mut self, order_id: OrderId) {
        let (status, expires_at) = (ReservationStatus::Released, EPOCH);
        let none = Reservation { order_id, status, lines: Vec::new(), expires_at };
        let mut reservation = self.reservations.get(&order_id).cloned().unwrap_or(none);
        match reservation.status {
            ReservationStatus::Held => self.book(&reservation.lines, 0, -1),
            ReservationStatus::Confirmed => self.book(&reservation.lines, 1, 0),
            ReservationStatus::Released => {}
        }
        reservation.status = status;
        self.reservations.insert(order_id, reservation);
    }

    fn reservation(&self, order_id: OrderId) -> Result<Reservation, InventoryError> {
        self.reservations.get(&order_id).cloned().ok_or(InventoryError::NoReservation { order_id })
    }

    /// Changes each level by the line's units times these factors.
    fn book(&mut self, lines: &[ReservedLine], on_hand: i64, reserved: i64) {
        for line in lines {
            if let Some(level) = self.levels.get_mut(&(line.product_id, line.warehouse_id)) {
                level.on_hand += on_hand * i64::from(line.quantity);
                level.reserved += reserved * i64::from(line.quantity);
            }
        }
    }

    fn expire(&mut self, limit: u32) -> u64 {
        let mut due: Vec<_> = self.reservations.values().filter(|each| is_due(each)).collect();
        due.sort_by_key(|reservation| reservation.expires_at);
        let due: Vec<OrderId> = page(due.into_iter().map(|each| each.order_id), limit).items;
        due.iter().map(|order_id| self.release(*order_id)).map(|()| 1).sum()
    }
}

fn is_due(reservation: &Reservation) -> bool {
    reservation.status == ReservationStatus::Held && reservation.expires_at <= EPOCH
}

#[async_trait]
impl Inventory for FakeInventory {
    async fn add_warehouse(
        &self,
        ctx: &CallContext,
        details: WarehouseDetails,
    ) -> Result<Warehouse, InventoryError> {
        if let Some(warehouse) = self.keys.found(ctx, "add_warehouse")? {
            return Ok(warehouse);
        }
        let warehouse = self.state().add_warehouse(details)?;
        Ok(self.keys.keep(ctx, "add_warehouse", warehouse))
    }

    async fn warehouse(&self, _: &CallContext, id: WarehouseId) -> Result<Warehouse, InventoryError> {
        self.state().warehouses.get(&id).cloned().ok_or(InventoryError::NoSuchWarehouse { id })
    }

    async fn warehouses(
        &self,
        _: &CallContext,
        after: Option<WarehouseId>,
        limit: u32,
    ) -> Result<Page<Warehouse>, InventoryError> {
        let state = self.state();
        Ok(page(state.warehouses.values().filter(|warehouse| Some(warehouse.id) > after).cloned(), limit))
    }

    async fn adjust(&self, ctx: &CallContext, adjustment: Adjustment) -> Result<StockLevel, InventoryError> {
        if let Some(level) = self.keys.found(ctx, "adjust")? {
            return Ok(level);
        }
        let level = self.state().adjust(&adjustment)?;
        Ok(self.keys.keep(ctx, "adjust", level))
    }

    async fn ensure_stock(
        &self,
        _: &CallContext,
        products: Vec<ProductId>,
        units: u32,
    ) -> Result<u64, InventoryError> {
        self.state().ensure_stock(products, units)
    }

    async fn stock(&self, _: &CallContext, product_id: ProductId) -> Result<Vec<StockLevel>, InventoryError> {
        Ok(self.state().stock(product_id).collect())
    }

    async fn reserve(&self, _: &CallContext, reserve: Reserve) -> Result<Reservation, InventoryError> {
        self.run("reserve", reserve.order_id, |state| state.reserve(&reserve))
    }

    async fn confirm(&self, _: &CallContext, order_id: OrderId) -> Result<Reservation, InventoryError> {
        self.run("confirm", order_id, |state| state.confirm(order_id))
    }

    async fn release(&self, _: &CallContext, order_id: OrderId) -> Result<(), InventoryError> {
        self.run("release", order_id, |state| {
            state.release(order_id);
            Ok(())
        })
    }

    async fn reservation(&self, _: &CallContext, order_id: OrderId) -> Result<Reservation, InventoryError> {
        self.state().reservation(order_id)
    }

    async fn expire(&self, _: &CallContext, limit: u32) -> Result<u64, InventoryError> {
        Ok(self.state().expire(limit))
    }
}
