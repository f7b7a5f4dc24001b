//! The port's suite on both databases and on the fake, and what only this store can show.

use contracts::suite::catalog::CatalogFixture;
use contracts::suite::{FakeCatalog, call, mug};
use contracts::{FixedClock, Timestamp};
use db::schema::SchemaSource;
use db::testing::{Scratch, scratch};
use db::{Backend, Conn, schema};
use diesel::connection::SimpleConnection;

use super::*;
use crate::SCHEMA;

struct Side {
    service: Arc<CatalogService>,
    db: Scratch,
}

fn on(db: Scratch) -> Side {
    let clock = Arc::new(FixedClock(Timestamp::from_millis(1_291_191_960_000)));
    Side { service: Arc::new(CatalogService::new(db.clone(), clock)), db }
}

fn side(backend: Backend) -> Side {
    on(scratch(backend, &[idempotency::SCHEMA, SCHEMA]))
}

impl CatalogFixture for Side {
    fn catalog(&self) -> &dyn Catalog {
        &*self.service
    }
}

impl CatalogFixture for FakeCatalogSide {
    fn catalog(&self) -> &dyn Catalog {
        &self.0
    }
}

struct FakeCatalogSide(FakeCatalog);

mod on_sqlite {
    async fn fixture() -> super::Side {
        super::side(db::Backend::Sqlite)
    }
    contracts::catalog_suite!(fixture);
}

mod on_postgres {
    async fn fixture() -> super::Side {
        super::side(db::Backend::Postgres)
    }
    contracts::catalog_suite!(fixture);
}

mod on_the_fake {
    async fn fixture() -> super::FakeCatalogSide {
        super::FakeCatalogSide(contracts::suite::FakeCatalog::default())
    }
    contracts::catalog_suite!(fixture);
}

/// Runs all at once and waits for the last.
async fn together<T: Send + 'static>(
    calls: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = calls.map(tokio::spawn).collect();
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.unwrap());
    }
    done
}

fn kind(name: &str, parent_id: Option<CategoryId>) -> CategoryDetails {
    CategoryDetails { name: name.to_owned(), parent_id }
}

async fn batches_ensured_at_once_in_any_order_add_each_product_once(side: Side) {
    let skus: Vec<String> = (0..40).map(|number| format!("M{number}")).collect();
    let ensured = together((0..6).map(|turn| {
        let (catalog, mut skus) = (Arc::clone(&side.service), skus.clone());
        skus.rotate_left(turn * 7);
        async move { catalog.ensure(&call(), skus.iter().map(|sku| mug(sku)).collect()).await.unwrap() }
    }))
    .await;
    let added = ensured.iter().flatten().filter(|ensured| ensured.added).count();
    assert_eq!(added, skus.len());
}

async fn of_two_who_saw_the_same_version_one_changes_the_product(side: Side) {
    let product = side.service.create(&call(), mug("A1")).await.unwrap();
    let updated = together((1..=6).map(|minor| {
        let (catalog, mut details) = (Arc::clone(&side.service), mug("A1"));
        details.price.minor = minor;
        async move { catalog.update(&call(), product.id, details, Some(1)).await }
    }))
    .await;
    assert_eq!(updated.iter().filter(|updated| updated.is_ok()).count(), 1, "{updated:?}");
    let prices = side.service.prices(&call(), product.id, None, 9).await.unwrap();
    assert_eq!(prices.items.len(), 2);
}

async fn categories_moved_at_once_close_no_circle(side: Side) {
    for round in 0..8 {
        let mut ids = Vec::new();
        for name in ["a", "b", "c"] {
            let details = kind(&format!("{name}{round}"), None);
            ids.push(side.service.create_category(&call(), details).await.unwrap().id);
        }
        let moved = together((0..3).map(|place| {
            let (catalog, id, parent) = (Arc::clone(&side.service), ids[place], ids[(place + 1) % 3]);
            let details = kind(&format!("moved{round}.{place}"), Some(parent));
            async move { catalog.update_category(&call(), id, details, None).await }
        }))
        .await;
        assert_eq!(moved.iter().filter(|moved| moved.is_ok()).count(), 2, "{moved:?}");
    }
}

async fn a_category_is_removed_or_gets_a_product_but_not_both(side: Side) {
    for round in 0..8 {
        let category = side.service.create_category(&call(), kind(&format!("c{round}"), None)).await.unwrap();
        let (remover, filler) = (Arc::clone(&side.service), Arc::clone(&side.service));
        let mut details = mug(&format!("M{round}"));
        details.category_id = Some(category.id);
        let removed = tokio::spawn(async move { remover.delete_category(&call(), category.id, None).await });
        let filled = tokio::spawn(async move { filler.create(&call(), details).await });
        match (removed.await.unwrap(), filled.await.unwrap()) {
            (Ok(()), Err(CatalogError::NoSuchCategory { id })) => assert_eq!(id, category.id),
            (Err(CatalogError::CategoryInUse { id }), Ok(_)) => assert_eq!(id, category.id),
            other => panic!("{other:?}"),
        }
    }
}

db::on_both!(side => [
    a_category_is_removed_or_gets_a_product_but_not_both,
    batches_ensured_at_once_in_any_order_add_each_product_once,
    categories_moved_at_once_close_no_circle,
    of_two_who_saw_the_same_version_one_changes_the_product,
]);

/// A database as the first version of this context left it, with one product.
fn old(backend: Backend) -> Side {
    let first = SchemaSource { migrations: &SCHEMA.migrations[..1], tables: &["catalog_products"], ..SCHEMA };
    let db = scratch(backend, &[idempotency::SCHEMA, first]);
    let insert =
        "INSERT INTO catalog_products (sku, name, price_minor, price_currency, created_at_ms, updated_at_ms)
        VALUES ('A1', 'White HEART Straße', 255, 'GBP', 1000, 2000)";
    let stored = db.write_blocking(|conn: &mut Conn| Ok::<_, DbError>(conn.batch_execute(insert)?));
    stored.unwrap();
    schema::apply(&db, &[idempotency::SCHEMA, SCHEMA]).unwrap();
    on(db)
}

async fn a_product_from_before_has_a_price_a_version_and_words(side: Side) {
    let product =
        side.service.list(&call(), ProductFilter::default(), None, 5).await.unwrap().items.remove(0);
    assert_eq!((product.version, product.details.category_id), (1, None));
    let prices = side.service.prices(&call(), product.id, None, 5).await.unwrap();
    let beginning =
        PriceChange { price: product.details.price, since: Timestamp::from_millis(2000), version: 1 };
    assert_eq!(prices.items, [beginning]);
    let filter = ProductFilter { text: Some("strasse heart a1".to_owned()), category_id: None };
    for (indexed, found) in [(1, 1), (0, 1)] {
        assert_eq!(side.service.index_older_products().unwrap(), indexed);
        let page = side.service.list(&call(), filter.clone(), None, 5).await.unwrap();
        assert_eq!(page.items.len(), found);
    }
    side.service.delete(&call(), product.id, None).await.unwrap();
    assert_eq!(side.service.list(&call(), filter, None, 5).await.unwrap().items, []);
}

async fn every_step_can_be_taken_back_and_again(side: Side) {
    let sources = [SCHEMA];
    for _ in 0..2 {
        let steps = SCHEMA.migrations.len() - 1;
        schema::revert(&side.db, &sources, steps, schema::Rows::Discard).unwrap();
        schema::apply(&side.db, &sources).unwrap();
    }
    assert_eq!(side.service.index_older_products().unwrap(), 1);
    assert!(!side.service.ensure(&call(), vec![mug("A1")]).await.unwrap()[0].added);
}

mod from_before {
    use super::{
        a_product_from_before_has_a_price_a_version_and_words, every_step_can_be_taken_back_and_again, old,
    };

    db::on_both!(old => [
        a_product_from_before_has_a_price_a_version_and_words,
        every_step_can_be_taken_back_and_again,
    ]);
}

#[test]
fn the_schema_lists_its_tables() {
    assert_eq!(schema::tables_of(&SCHEMA).unwrap(), SCHEMA.tables);
}
