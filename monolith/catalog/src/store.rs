//! The statements of the context. Each function belongs inside a transaction of its caller.
//!
//! Invariant: uniqueness and what categories hold are the database's to decide; where a function looks first, what it saw is
//! locked or its write decides again.

mod categories;
mod list;

use contracts::catalog::{CatalogError, Product, ProductDetails};
use contracts::users::Ensured;
use contracts::{KeyReused, Page, ProductId, Timestamp};
use db::{Conn, DbError};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl, SelectableHelper, sql_query,
};

use crate::domain::{self, PriceRow, Row, RowError};
use crate::schema::{catalog_prices, catalog_products};

pub(crate) use categories::{categories, category, create_category, delete_category, update_category};
pub(crate) use list::{index, list, prices};

/// What stops a use case.
#[derive(Debug)]
pub(crate) enum StoreError {
    Catalog(CatalogError),
    Database(DbError),
}

impl From<CatalogError> for StoreError {
    fn from(error: CatalogError) -> Self {
        Self::Catalog(error)
    }
}

impl From<KeyReused> for StoreError {
    fn from(error: KeyReused) -> Self {
        Self::Catalog(error.into())
    }
}

impl From<DbError> for StoreError {
    fn from(error: DbError) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self::Database(DbError::Statement(error))
    }
}

impl From<RowError> for StoreError {
    fn from(error: RowError) -> Self {
        Self::Database(DbError::Corrupt {
            what: format!("a row of the catalog with {error} in another form"),
        })
    }
}

pub(crate) fn create(
    conn: &mut Conn,
    details: ProductDetails,
    now: Timestamp,
) -> Result<Product, StoreError> {
    match insert(conn, &details, now)? {
        Some(id) => added(conn, id, details, now),
        None => Err(CatalogError::SkuTaken { sku: details.sku }.into()),
    }
}

pub(crate) fn get(conn: &mut Conn, id: ProductId) -> Result<Product, StoreError> {
    let row = catalog_products::table.find(id.get()).select(Row::as_select()).get_result(conn).optional()?;
    Ok(domain::product(row.ok_or(CatalogError::NotFound { id })?)?)
}

/// Those of the ids that exist, in one statement.
pub(crate) fn get_many(conn: &mut Conn, ids: &[i64]) -> Result<Vec<Product>, StoreError> {
    // For each backend by itself: PostgreSQL then takes the ids as one array, and keeps the statement.
    let rows: Vec<Row> = db::on_each!(conn, |conn| catalog_products::table
        .filter(catalog_products::id.eq_any(ids))
        .order(catalog_products::id)
        .select(Row::as_select())
        .load(conn)?);
    Ok(rows.into_iter().map(domain::product).collect::<Result<_, _>>()?)
}

pub(crate) fn update(
    conn: &mut Conn,
    id: ProductId,
    details: ProductDetails,
    expected: Option<i64>,
    now: Timestamp,
) -> Result<Product, StoreError> {
    let before = locked(conn, id, expected)?;
    let after = Product { details, updated_at: now, version: before.version + 1, ..before };
    diesel::update(catalog_products::table.find(id.get()))
        .set((
            domain::details_row(&after.details),
            catalog_products::updated_at_ms.eq(now.as_millis()),
            catalog_products::version.eq(after.version),
        ))
        .execute(conn)
        .map_err(|error| refused(error, &after.details))?;
    if after.details.price != before.details.price {
        keep_price(conn, &after)?;
    }
    Ok(after)
}

pub(crate) fn delete(conn: &mut Conn, id: ProductId, expected: Option<i64>) -> Result<(), StoreError> {
    locked(conn, id, expected)?;
    diesel::delete(catalog_products::table.find(id.get())).execute(conn)?;
    Ok(())
}

pub(crate) fn ensure(
    conn: &mut Conn,
    batch: Vec<ProductDetails>,
    now: Timestamp,
) -> Result<Vec<Ensured<ProductId>>, StoreError> {
    if let Conn::Postgres(conn) = conn {
        // Two batches that add the same products in another order would wait for each other for ever.
        sql_query("SELECT pg_advisory_xact_lock(hashtext('catalog.ensure'))").execute(conn)?;
    }
    let mut ensured = Vec::with_capacity(batch.len());
    for details in batch {
        ensured.push(match by_sku(conn, &details.sku)? {
            Some(id) => Ensured { id, added: false },
            None => ensure_new(conn, details, now)?,
        });
    }
    Ok(ensured)
}

/// Adds a product that was not there, unless somebody else has just done so.
fn ensure_new(
    conn: &mut Conn,
    details: ProductDetails,
    now: Timestamp,
) -> Result<Ensured<ProductId>, StoreError> {
    if let Some(id) = insert(conn, &details, now)? {
        return Ok(Ensured { id: added(conn, id, details, now)?.id, added: true });
    }
    match by_sku(conn, &details.sku)? {
        Some(id) => Ok(Ensured { id, added: false }),
        None => Err(CatalogError::SkuTaken { sku: details.sku }.into()),
    }
}

/// The id of the new product; nothing where its unit is taken.
fn insert(conn: &mut Conn, details: &ProductDetails, now: Timestamp) -> Result<Option<i64>, StoreError> {
    let inserted = db::on_each!(conn, |conn| diesel::insert_into(catalog_products::table)
        .values((
            domain::details_row(details),
            catalog_products::created_at_ms.eq(now.as_millis()),
            catalog_products::updated_at_ms.eq(now.as_millis()),
            catalog_products::version.eq(1),
        ))
        .on_conflict_do_nothing()
        .returning(catalog_products::id)
        .get_result(conn)
        .optional());
    inserted.map_err(|error| refused(error, details))
}

/// The new product, with the beginning of its history.
fn added(conn: &mut Conn, id: i64, details: ProductDetails, now: Timestamp) -> Result<Product, StoreError> {
    let id = ProductId::try_from(id).map_err(RowError::Id)?;
    let product = Product { id, details, created_at: now, updated_at: now, version: 1 };
    keep_price(conn, &product)?;
    Ok(product)
}

fn by_sku(conn: &mut Conn, sku: &str) -> Result<Option<ProductId>, StoreError> {
    let found = catalog_products::table
        .filter(catalog_products::sku.eq(sku))
        .select(catalog_products::id)
        // Not `first`, which SQLite would plan anew for every product of the batch: see `db::Db`.
        .get_result::<i64>(conn)
        .optional()?;
    Ok(found.map(ProductId::try_from).transpose().map_err(RowError::Id)?)
}

/// The product, which nobody else changes from here on.
fn locked(conn: &mut Conn, id: ProductId, expected: Option<i64>) -> Result<Product, StoreError> {
    let row =
        db::for_update!(conn, catalog_products::table.find(id.get()).select(Row::as_select()), get_result)
            .optional()?;
    let product = domain::product(row.ok_or(CatalogError::NotFound { id })?)?;
    if expected.is_some_and(|expected| expected != product.version) {
        return Err(CatalogError::Changed { id }.into());
    }
    Ok(product)
}

fn keep_price(conn: &mut Conn, product: &Product) -> QueryResult<()> {
    let row: PriceRow = domain::price_row(product);
    diesel::insert_into(catalog_prices::table).values(&row).execute(conn)?;
    Ok(())
}

/// The first `limit` of the rows, of which there is one more where the listing goes on.
fn page<R, T>(
    rows: Vec<R>,
    limit: u32,
    parse: impl Fn(R) -> Result<T, RowError>,
) -> Result<Page<T>, StoreError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    let items = rows.into_iter().take(limit).map(parse).collect::<Result<_, _>>()?;
    Ok(Page { items, more })
}

/// The only unique value that a client sets is the sku, the only reference the category.
fn refused(error: Error, details: &ProductDetails) -> StoreError {
    match (error, details.category_id) {
        (Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _), _) => {
            CatalogError::SkuTaken { sku: details.sku.clone() }.into()
        }
        (Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _), Some(id)) => {
            CatalogError::NoSuchCategory { id }.into()
        }
        (other, _) => other.into(),
    }
}
