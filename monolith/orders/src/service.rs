//! The orders port over the store and over the ports of users and catalog.
//!
//! Invariant: other contexts are asked before the transaction begins, so a slow one never holds the writer.

use std::sync::Arc;

use async_trait::async_trait;
use contracts::catalog::{Catalog, CatalogError};
use contracts::orders::{CONTEXT, ImportOrder, Imported, Order, OrderKind, Orders, OrdersError, PlaceOrder};
use contracts::users::{Users, UsersError};
use contracts::{CallContext, Clock, OrderId, Page, Unavailable, UserId};
use db::Db;

use crate::domain;
use crate::store::{self, NewOrder, StoreError};

/// The orders context on a database that holds [`SCHEMA`](crate::SCHEMA).
#[derive(Clone)]
pub struct OrdersService {
    db: Db,
    clock: Arc<dyn Clock>,
    users: Arc<dyn Users>,
    catalog: Arc<dyn Catalog>,
}

impl OrdersService {
    /// The context on this database, asking these ports.
    pub fn new(db: Db, clock: Arc<dyn Clock>, users: Arc<dyn Users>, catalog: Arc<dyn Catalog>) -> Self {
        Self { db, clock, users, catalog }
    }
}

#[async_trait]
impl Orders for OrdersService {
    async fn place(&self, ctx: &CallContext, order: PlaceOrder) -> Result<Order, OrdersError> {
        self.users.get(ctx, order.user_id).await.map_err(no_user)?;
        let ids = order.lines.iter().map(|(id, _)| *id).collect();
        let products = self.catalog.get_many(ctx, ids).await.map_err(no_products)?;
        let lines = domain::priced(&order, &products)?;
        let total = domain::total(&lines)?;
        let now = self.clock.now();
        let placed = self.db.write(move |conn| {
            let new = NewOrder {
                user_id: order.user_id,
                reference: None,
                kind: OrderKind::Sale,
                lines: &lines,
                total,
                placed_at: now,
            };
            let id = store::add(conn, &new)?;
            store::get(conn, OrderId::try_from(id).map_err(domain::RowError::Id)?)
        });
        Ok(placed.await?)
    }

    async fn get(&self, _: &CallContext, id: OrderId) -> Result<Order, OrdersError> {
        Ok(self.db.read(move |conn| store::get(conn, id)).await?)
    }

    async fn list(
        &self,
        _: &CallContext,
        user_id: UserId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Page<Order>, OrdersError> {
        Ok(self.db.read(move |conn| store::list(conn, user_id, after, limit)).await?)
    }

    async fn cancel(&self, _: &CallContext, id: OrderId) -> Result<Order, OrdersError> {
        let now = self.clock.now();
        Ok(self.db.write(move |conn| store::cancel(conn, id, now)).await?)
    }

    async fn import(&self, _: &CallContext, batch: Vec<ImportOrder>) -> Result<Vec<Imported>, OrdersError> {
        Ok(self.db.write(move |conn| store::import(conn, &batch)).await?)
    }
}

/// Asking for a user has no effect, so nothing may have been done.
fn no_user(error: UsersError) -> OrdersError {
    match error {
        UsersError::NotFound { id } => OrdersError::NoSuchUser { id },
        UsersError::Unavailable(error) => Unavailable { maybe_done: false, ..error }.into(),
        UsersError::EmailTaken { .. } | UsersError::NotOwner => {
            unasked(contracts::users::CONTEXT, error.to_string())
        }
    }
}

/// Asking for products has no effect either.
fn no_products(error: CatalogError) -> OrdersError {
    match error {
        CatalogError::Unavailable(error) => Unavailable { maybe_done: false, ..error }.into(),
        CatalogError::NotFound { .. } | CatalogError::SkuTaken { .. } => {
            unasked(contracts::catalog::CONTEXT, error.to_string())
        }
    }
}

/// An answer that the question does not have.
fn unasked(context: &str, answer: String) -> OrdersError {
    let reason = format!("it answered a read with `{answer}`");
    Unavailable { context: context.to_owned(), reason, maybe_done: false }.into()
}

impl From<StoreError> for OrdersError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Order(error) => error,
            StoreError::Database(error) => error.unavailable(CONTEXT).into(),
        }
    }
}

#[cfg(test)]
mod tests;
