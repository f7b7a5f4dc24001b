//! The catalog port over the store.
//!
//! Invariant: one transaction per call, and nothing but the database inside it.

use std::sync::Arc;

use async_trait::async_trait;
use contracts::catalog::{CONTEXT, Catalog, CatalogError, Product, ProductDetails};
use contracts::users::Ensured;
use contracts::{CallContext, Clock, Page, ProductId};
use db::Db;

use crate::store::{self, StoreError};

/// The catalog context on a database that holds [`SCHEMA`](crate::SCHEMA).
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
}

#[async_trait]
impl Catalog for CatalogService {
    async fn create(&self, _: &CallContext, details: ProductDetails) -> Result<Product, CatalogError> {
        let now = self.clock.now();
        Ok(self.db.write(move |conn| store::create(conn, details, now)).await?)
    }

    async fn get(&self, _: &CallContext, id: ProductId) -> Result<Product, CatalogError> {
        Ok(self.db.read(move |conn| store::get(conn, id)).await?)
    }

    async fn get_many(&self, _: &CallContext, ids: Vec<ProductId>) -> Result<Vec<Product>, CatalogError> {
        Ok(self.db.read(move |conn| store::get_many(conn, ids)).await?)
    }

    async fn update(
        &self,
        _: &CallContext,
        id: ProductId,
        details: ProductDetails,
    ) -> Result<Product, CatalogError> {
        let now = self.clock.now();
        Ok(self.db.write(move |conn| store::update(conn, id, details, now)).await?)
    }

    async fn delete(&self, _: &CallContext, id: ProductId) -> Result<(), CatalogError> {
        Ok(self.db.write(move |conn| store::delete(conn, id)).await?)
    }

    async fn list(
        &self,
        _: &CallContext,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Page<Product>, CatalogError> {
        Ok(self.db.read(move |conn| store::list(conn, after, limit)).await?)
    }

    async fn ensure(
        &self,
        _: &CallContext,
        batch: Vec<ProductDetails>,
    ) -> Result<Vec<Ensured<ProductId>>, CatalogError> {
        let now = self.clock.now();
        Ok(self.db.write(move |conn| store::ensure(conn, batch, now)).await?)
    }
}

impl From<StoreError> for CatalogError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(id) => Self::NotFound { id },
            StoreError::SkuTaken(sku) => Self::SkuTaken { sku },
            StoreError::Database(error) => error.unavailable(CONTEXT).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use contracts::{FixedClock, Money, Timestamp};
    use db::{DatabaseSettings, schema};

    use super::*;
    use crate::SCHEMA;

    struct Fixture {
        _folder: tempfile::TempDir,
        catalog: CatalogService,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("monolith.db");
        let db = Db::open(&DatabaseSettings { path, readers: 1, ..DatabaseSettings::default() }).unwrap();
        schema::apply(&db, &[SCHEMA]).unwrap();
        let clock = Arc::new(FixedClock(Timestamp::from_millis(1_291_191_960_000)));
        Fixture { catalog: CatalogService::new(db, clock), _folder: folder }
    }

    fn call() -> CallContext {
        CallContext::new("test", Duration::from_secs(60))
    }

    fn mug(sku: &str) -> ProductDetails {
        ProductDetails { sku: sku.to_owned(), name: "Mug".to_owned(), price: Money::gbp(255) }
    }

    #[tokio::test]
    async fn a_created_product_can_be_read_back() {
        let fixture = fixture();
        let created = fixture.catalog.create(&call(), mug("A1")).await.unwrap();
        assert_eq!(created.details, mug("A1"));
        assert_eq!(fixture.catalog.get(&call(), created.id).await, Ok(created));
    }

    #[tokio::test]
    async fn a_taken_sku_is_refused_by_create_and_update() {
        let fixture = fixture();
        fixture.catalog.create(&call(), mug("A1")).await.unwrap();
        let other = fixture.catalog.create(&call(), mug("B2")).await.unwrap();
        let taken = Err(CatalogError::SkuTaken { sku: "A1".to_owned() });
        assert_eq!(fixture.catalog.create(&call(), mug("A1")).await, taken);
        assert_eq!(fixture.catalog.update(&call(), other.id, mug("A1")).await, taken);
    }

    #[tokio::test]
    async fn an_update_replaces_all_details() {
        let fixture = fixture();
        let before = fixture.catalog.create(&call(), mug("A1")).await.unwrap();
        let details = ProductDetails { price: Money::gbp(1), name: "Cup".to_owned(), ..mug("A2") };
        let after = fixture.catalog.update(&call(), before.id, details.clone()).await.unwrap();
        assert_eq!((after.id, &after.details), (before.id, &details));
        assert_eq!(fixture.catalog.get(&call(), before.id).await, Ok(after));
    }

    #[tokio::test]
    async fn a_deleted_product_is_gone_and_its_id_stays_unused() {
        let fixture = fixture();
        let product = fixture.catalog.create(&call(), mug("A1")).await.unwrap();
        fixture.catalog.delete(&call(), product.id).await.unwrap();
        let gone = CatalogError::NotFound { id: product.id };
        assert_eq!(fixture.catalog.get(&call(), product.id).await, Err(gone.clone()));
        assert_eq!(fixture.catalog.delete(&call(), product.id).await, Err(gone.clone()));
        assert_eq!(fixture.catalog.update(&call(), product.id, mug("A1")).await, Err(gone));
        assert!(fixture.catalog.create(&call(), mug("A1")).await.unwrap().id > product.id);
    }

    #[tokio::test]
    async fn many_products_come_once_each_in_order_of_id_without_the_missing() {
        let fixture = fixture();
        let batch = ["A", "B", "C"].map(mug).to_vec();
        let ids: Vec<ProductId> =
            fixture.catalog.ensure(&call(), batch).await.unwrap().iter().map(|ensured| ensured.id).collect();
        let missing = ProductId::try_from(99).unwrap();
        let asked = vec![ids[2], missing, ids[0], ids[2]];
        let found = fixture.catalog.get_many(&call(), asked).await.unwrap();
        assert_eq!(found.iter().map(|product| product.id).collect::<Vec<_>>(), [ids[0], ids[2]]);
    }

    #[tokio::test]
    async fn ensuring_twice_adds_once() {
        let fixture = fixture();
        let batch = vec![mug("A"), mug("B"), mug("A")];
        let first = fixture.catalog.ensure(&call(), batch.clone()).await.unwrap();
        assert_eq!(first.iter().map(|ensured| ensured.added).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(first[0].id, first[2].id);
        let second = fixture.catalog.ensure(&call(), batch).await.unwrap();
        assert!(second.iter().all(|ensured| !ensured.added));
    }

    #[tokio::test]
    async fn pages_join_to_all_products() {
        let fixture = fixture();
        let batch = (0..5).map(|number| mug(&number.to_string())).collect();
        let ids: Vec<ProductId> =
            fixture.catalog.ensure(&call(), batch).await.unwrap().iter().map(|ensured| ensured.id).collect();
        let first = fixture.catalog.list(&call(), None, 3).await.unwrap();
        let rest = fixture.catalog.list(&call(), Some(ids[2]), 3).await.unwrap();
        assert_eq!((first.more, rest.more), (true, false));
        let joined = first.items.into_iter().chain(rest.items).map(|product| product.id);
        assert_eq!(joined.collect::<Vec<_>>(), ids);
    }

    #[test]
    fn the_schema_lists_its_tables() {
        assert_eq!(schema::tables_of(&SCHEMA).unwrap(), SCHEMA.tables);
    }
}
