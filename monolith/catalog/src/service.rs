//! The catalog port over the store.
//!
//! Invariant: one transaction per command, and nothing but the database inside it.

use std::sync::Arc;

use async_trait::async_trait;
use contracts::catalog::{
    CONTEXT, Catalog, CatalogError, Category, CategoryDetails, PriceChange, Product, ProductDetails,
    ProductFilter,
};
use contracts::users::Ensured;
use contracts::{CallContext, CategoryId, Clock, Page, ProductId};
use db::{Db, DbError, idempotency};

use crate::store::{self, StoreError};

/// Ids in one statement: far below SQLite's limit of 32,766 variables, far above a page.
const IDS_AT_ONCE: usize = 1000;

/// The catalog context on a database that holds [`SCHEMA`](crate::SCHEMA) and the idempotency keys.
#[derive(Clone)]
pub struct CatalogService {
    db: Db,
    clock: Arc<dyn Clock>,
}

impl CatalogService {
    /// The context on this database.
    pub fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock }
    }

    /// Lets a search find products that are older than it, and returns how many those were. Blocking; to be called after
    /// the schema was applied. Nothing to do costs one look.
    pub fn index_older_products(&self) -> Result<usize, DbError> {
        let mut indexed = 0;
        loop {
            match self.db.write_blocking(store::index) {
                Ok(0) => return Ok(indexed),
                Ok(some) => indexed += some,
                Err(StoreError::Database(error)) => return Err(error),
                Err(StoreError::Catalog(error)) => return Err(DbError::Corrupt { what: error.to_string() }),
            }
        }
    }
}

#[async_trait]
impl Catalog for CatalogService {
    async fn create(&self, ctx: &CallContext, details: ProductDetails) -> Result<Product, CatalogError> {
        let (key, now) = (ctx.idempotency.clone(), self.clock.now());
        let created = self.db.write(move |conn| {
            let create = |conn: &mut _| store::create(conn, details, now);
            idempotency::once(conn, "catalog.create", key.as_ref(), now, create)
        });
        Ok(created.await?)
    }

    async fn get(&self, _: &CallContext, id: ProductId) -> Result<Product, CatalogError> {
        Ok(self.db.read_one(move |conn| store::get(conn, id)).await?)
    }

    async fn get_many(&self, _: &CallContext, ids: Vec<ProductId>) -> Result<Vec<Product>, CatalogError> {
        let mut ids: Vec<i64> = ids.into_iter().map(ProductId::get).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut products = Vec::with_capacity(ids.len());
        for some in ids.chunks(IDS_AT_ONCE).map(<[i64]>::to_vec) {
            products.extend(self.db.read_one(move |conn| store::get_many(conn, &some)).await?);
        }
        Ok(products)
    }

    async fn update(
        &self,
        _: &CallContext,
        id: ProductId,
        details: ProductDetails,
        expected: Option<i64>,
    ) -> Result<Product, CatalogError> {
        let now = self.clock.now();
        Ok(self.db.write(move |conn| store::update(conn, id, details, expected, now)).await?)
    }

    async fn delete(
        &self,
        _: &CallContext,
        id: ProductId,
        expected: Option<i64>,
    ) -> Result<(), CatalogError> {
        Ok(self.db.write(move |conn| store::delete(conn, id, expected)).await?)
    }

    async fn list(
        &self,
        _: &CallContext,
        filter: ProductFilter,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Page<Product>, CatalogError> {
        Ok(self.db.read_one(move |conn| store::list(conn, &filter, after, limit)).await?)
    }

    async fn prices(
        &self,
        _: &CallContext,
        id: ProductId,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Page<PriceChange>, CatalogError> {
        Ok(self.db.read(move |conn| store::prices(conn, id, after, limit)).await?)
    }

    async fn ensure(
        &self,
        _: &CallContext,
        batch: Vec<ProductDetails>,
    ) -> Result<Vec<Ensured<ProductId>>, CatalogError> {
        let now = self.clock.now();
        Ok(self.db.write(move |conn| store::ensure(conn, batch, now)).await?)
    }

    async fn create_category(
        &self,
        ctx: &CallContext,
        details: CategoryDetails,
    ) -> Result<Category, CatalogError> {
        let (key, now) = (ctx.idempotency.clone(), self.clock.now());
        let created = self.db.write(move |conn| {
            let create = |conn: &mut _| store::create_category(conn, details);
            idempotency::once(conn, "catalog.create_category", key.as_ref(), now, create)
        });
        Ok(created.await?)
    }

    async fn category(&self, _: &CallContext, id: CategoryId) -> Result<Category, CatalogError> {
        Ok(self.db.read_one(move |conn| store::category(conn, id)).await?)
    }

    async fn update_category(
        &self,
        _: &CallContext,
        id: CategoryId,
        details: CategoryDetails,
        expected: Option<i64>,
    ) -> Result<Category, CatalogError> {
        Ok(self.db.write(move |conn| store::update_category(conn, id, details, expected)).await?)
    }

    async fn delete_category(
        &self,
        _: &CallContext,
        id: CategoryId,
        expected: Option<i64>,
    ) -> Result<(), CatalogError> {
        Ok(self.db.write(move |conn| store::delete_category(conn, id, expected)).await?)
    }

    async fn categories(
        &self,
        _: &CallContext,
        after: Option<CategoryId>,
        limit: u32,
    ) -> Result<Page<Category>, CatalogError> {
        Ok(self.db.read_one(move |conn| store::categories(conn, after, limit)).await?)
    }
}

impl From<StoreError> for CatalogError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Catalog(error) => error,
            StoreError::Database(error) => error.unavailable(CONTEXT).into(),
        }
    }
}

#[cfg(test)]
mod tests;
