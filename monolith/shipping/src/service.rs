//! The shipping port over the store.
//!
//! Invariant: one transaction per call, and nothing but the database inside it.

use std::sync::Arc;

use async_trait::async_trait;
use contracts::shipping::{
    CONTEXT, Schedule, Shipment, ShipmentStatus, ShipmentStep, Shipping, ShippingError,
};
use contracts::{CallContext, Clock, OrderId};
use db::events::Outbox;
use db::{Db, idempotency};

use crate::store::{self, StoreError};

/// The shipping context on a database that holds [`SCHEMA`](crate::SCHEMA), the idempotency keys and the events.
#[derive(Clone)]
pub struct ShippingService {
    pub(crate) db: Db,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) outbox: Outbox,
}

impl ShippingService {
    /// The context on this database.
    pub fn new(db: Db, clock: Arc<dyn Clock>, outbox: Outbox) -> Self {
        Self { db, clock, outbox }
    }
}

#[async_trait]
impl Shipping for ShippingService {
    async fn schedule(&self, _: &CallContext, schedule: Schedule) -> Result<Shipment, ShippingError> {
        let now = self.clock.now();
        Ok(self.db.write(move |conn| store::schedule(conn, &schedule, now)).await?)
    }

    async fn stop(&self, _: &CallContext, order_id: OrderId) -> Result<(), ShippingError> {
        let now = self.clock.now();
        Ok(self.db.write(move |conn| store::stop(conn, order_id, now)).await?)
    }

    async fn advance(
        &self,
        ctx: &CallContext,
        order_id: OrderId,
        to: ShipmentStatus,
    ) -> Result<Shipment, ShippingError> {
        let (key, now) = (ctx.idempotency.clone(), self.clock.now());
        let advanced = self.db.write(move |conn| {
            idempotency::once(conn, "shipping.advance", key.as_ref(), now, |conn| {
                store::advance(conn, order_id, ShipmentStep { status: to, at: now })
            })
        });
        Ok(advanced.await?)
    }

    async fn track(&self, _: &CallContext, order_id: OrderId) -> Result<Shipment, ShippingError> {
        Ok(self.db.read(move |conn| store::track(conn, order_id)).await?)
    }
}

impl From<StoreError> for ShippingError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Shipping(error) => error,
            StoreError::Database(error) => error.unavailable(CONTEXT).into(),
        }
    }
}

#[cfg(test)]
mod tests;
