//! The inventory port over the store.
//!
//! Invariant: one transaction per call and order, and nothing but the database inside it.

use std::sync::Arc;

use async_trait::async_trait;
use contracts::inventory::{
    Adjustment, CONTEXT, Inventory, InventoryError, Reservation, Reserve, StockLevel, Warehouse,
    WarehouseDetails,
};
use contracts::{CallContext, Clock, OrderId, Page, ProductId, WarehouseId};
use db::events::Outbox;
use db::{Db, idempotency};

use crate::store::{self, Entry, StoreError};

/// The inventory context on a database that holds [`SCHEMA`](crate::SCHEMA), the idempotency keys and the events.
#[derive(Clone)]
pub struct InventoryService {
    pub(crate) db: Db,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) outbox: Outbox,
}

impl InventoryService {
    /// The context on this database.
    pub fn new(db: Db, clock: Arc<dyn Clock>, outbox: Outbox) -> Self {
        Self { db, clock, outbox }
    }

    fn entry(&self, ctx: &CallContext) -> Entry {
        Entry { request_id: ctx.request_id.0.clone(), now: self.clock.now() }
    }
}

#[async_trait]
impl Inventory for InventoryService {
    async fn add_warehouse(
        &self,
        ctx: &CallContext,
        details: WarehouseDetails,
    ) -> Result<Warehouse, InventoryError> {
        let (key, now) = (ctx.idempotency.clone(), self.clock.now());
        let added = self.db.write(move |conn| {
            idempotency::once(conn, "inventory.add_warehouse", key.as_ref(), now, |conn| {
                store::add_warehouse(conn, details)
            })
        });
        Ok(added.await?)
    }

    async fn warehouse(&self, _: &CallContext, id: WarehouseId) -> Result<Warehouse, InventoryError> {
        Ok(self.db.read_one(move |conn| store::warehouse(conn, id)).await?)
    }

    async fn warehouses(
        &self,
        _: &CallContext,
        after: Option<WarehouseId>,
        limit: u32,
    ) -> Result<Page<Warehouse>, InventoryError> {
        Ok(self.db.read_one(move |conn| store::warehouses(conn, after, limit)).await?)
    }

    async fn adjust(&self, ctx: &CallContext, adjustment: Adjustment) -> Result<StockLevel, InventoryError> {
        let (key, entry) = (ctx.idempotency.clone(), self.entry(ctx));
        let adjusted = self.db.write(move |conn| {
            idempotency::once(conn, "inventory.adjust", key.as_ref(), entry.now, |conn| {
                store::adjust(conn, &adjustment, &entry)
            })
        });
        Ok(adjusted.await?)
    }

    async fn ensure_stock(
        &self,
        ctx: &CallContext,
        products: Vec<ProductId>,
        units: u32,
    ) -> Result<u64, InventoryError> {
        let entry = self.entry(ctx);
        Ok(self.db.write(move |conn| store::ensure_stock(conn, products, units, &entry)).await?)
    }

    async fn stock(&self, _: &CallContext, product_id: ProductId) -> Result<Vec<StockLevel>, InventoryError> {
        Ok(self.db.read_one(move |conn| store::stock(conn, product_id)).await?)
    }

    async fn reserve(&self, _: &CallContext, reserve: Reserve) -> Result<Reservation, InventoryError> {
        Ok(self.db.write(move |conn| store::reserve(conn, reserve)).await?)
    }

    async fn confirm(&self, _: &CallContext, order_id: OrderId) -> Result<Reservation, InventoryError> {
        Ok(self.db.write(move |conn| store::confirm(conn, order_id)).await?)
    }

    async fn release(&self, _: &CallContext, order_id: OrderId) -> Result<(), InventoryError> {
        let now = self.clock.now();
        Ok(self.db.write(move |conn| store::release(conn, order_id, now)).await?)
    }

    async fn reservation(&self, _: &CallContext, order_id: OrderId) -> Result<Reservation, InventoryError> {
        Ok(self.db.read(move |conn| store::reservation(conn, order_id)).await?)
    }

    async fn expire(&self, _: &CallContext, limit: u32) -> Result<u64, InventoryError> {
        let now = self.clock.now();
        let due = self.db.read_one(move |conn| store::due(conn, now, limit)).await?;
        let mut expired = 0;
        // A transaction for each, so that a buyer of the same products waits for one of them at most.
        for order_id in due {
            expired += u64::from(self.db.write(move |conn| store::expire(conn, order_id, now)).await?);
        }
        Ok(expired)
    }
}

impl From<StoreError> for InventoryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Inventory(error) => error,
            StoreError::Database(error) => error.unavailable(CONTEXT).into(),
        }
    }
}

#[cfg(test)]
mod tests;
