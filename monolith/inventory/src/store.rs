//! The statements of the context. Each function belongs inside a transaction of its caller.
//!
//! Invariant: locks are taken in one order, the reservation before its stock and stock by product and warehouse, so no two
//! transactions wait for each other.

mod reservations;
mod stock;

use contracts::KeyReused;
use contracts::inventory::InventoryError;
use db::DbError;

use crate::domain::RowError;

pub(crate) use reservations::{confirm, due, expire, release, reservation, reserve};
pub(crate) use stock::{Entry, add_warehouse, adjust, ensure_stock, stock, warehouse, warehouses};

/// What stops a use case.
#[derive(Debug)]
pub(crate) enum StoreError {
    Inventory(InventoryError),
    Database(DbError),
}

impl From<InventoryError> for StoreError {
    fn from(error: InventoryError) -> Self {
        Self::Inventory(error)
    }
}

impl From<KeyReused> for StoreError {
    fn from(error: KeyReused) -> Self {
        Self::Inventory(error.into())
    }
}

impl From<DbError> for StoreError {
    fn from(error: DbError) -> Self {
        Self::Database(error)
    }
}

impl From<diesel::result::Error> for StoreError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(DbError::Statement(error))
    }
}

impl From<RowError> for StoreError {
    fn from(error: RowError) -> Self {
        Self::Database(DbError::Corrupt { what: format!("stock with {error} in another form") })
    }
}
