//! The statements of the context. Each function belongs inside a transaction of its caller.
//!
//! Invariant: uniqueness is the database's to decide; where a function looks first, the same transaction writes.

use contracts::catalog::{Product, ProductDetails};
use contracts::users::Ensured;
use contracts::{Page, ProductId, Timestamp};
use db::DbError;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, RunQueryDsl, SelectableHelper, SqliteConnection,
};

use crate::domain::{self, Row, RowError};
use crate::schema::catalog_products;

/// Ids in one statement: far below SQLite's limit of 32,766 variables, far above a page.
const IDS_AT_ONCE: usize = 1000;

/// What stops a use case.
#[derive(Debug)]
pub(crate) enum StoreError {
    NotFound(ProductId),
    SkuTaken(String),
    Database(DbError),
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
        Self::Database(DbError::Corrupt { what: format!("a product with {error} in another form") })
    }
}

pub(crate) fn create(
    conn: &mut SqliteConnection,
    details: ProductDetails,
    now: Timestamp,
) -> Result<Product, StoreError> {
    let inserted = diesel::insert_into(catalog_products::table)
        .values((
            domain::details_row(&details),
            catalog_products::created_at_ms.eq(now.as_millis()),
            catalog_products::updated_at_ms.eq(now.as_millis()),
        ))
        .returning(catalog_products::id)
        .get_result::<i64>(conn);
    let id = inserted.map_err(|error| taken(error, &details.sku))?;
    let id = ProductId::try_from(id).map_err(RowError::Id)?;
    Ok(Product { id, details, created_at: now, updated_at: now })
}

pub(crate) fn get(conn: &mut SqliteConnection, id: ProductId) -> Result<Product, StoreError> {
    let row = catalog_products::table.find(id.get()).select(Row::as_select()).get_result(conn).optional()?;
    Ok(domain::product(row.ok_or(StoreError::NotFound(id))?)?)
}

pub(crate) fn get_many(
    conn: &mut SqliteConnection,
    mut ids: Vec<ProductId>,
) -> Result<Vec<Product>, StoreError> {
    ids.sort_unstable();
    ids.dedup();
    let mut products = Vec::with_capacity(ids.len());
    for some in ids.chunks(IDS_AT_ONCE) {
        let rows: Vec<Row> = catalog_products::table
            .filter(catalog_products::id.eq_any(some.iter().map(|id| id.get())))
            .order(catalog_products::id)
            .select(Row::as_select())
            .load(conn)?;
        for row in rows {
            products.push(domain::product(row)?);
        }
    }
    Ok(products)
}

pub(crate) fn update(
    conn: &mut SqliteConnection,
    id: ProductId,
    details: ProductDetails,
    now: Timestamp,
) -> Result<Product, StoreError> {
    let updated = diesel::update(catalog_products::table.find(id.get()))
        .set((domain::details_row(&details), catalog_products::updated_at_ms.eq(now.as_millis())))
        .returning(Row::as_returning())
        .get_result(conn)
        .optional();
    let row = updated.map_err(|error| taken(error, &details.sku))?;
    Ok(domain::product(row.ok_or(StoreError::NotFound(id))?)?)
}

pub(crate) fn delete(conn: &mut SqliteConnection, id: ProductId) -> Result<(), StoreError> {
    match diesel::delete(catalog_products::table.find(id.get())).execute(conn)? {
        0 => Err(StoreError::NotFound(id)),
        _ => Ok(()),
    }
}

pub(crate) fn list(
    conn: &mut SqliteConnection,
    after: Option<ProductId>,
    limit: u32,
) -> Result<Page<Product>, StoreError> {
    let rows: Vec<Row> = catalog_products::table
        .filter(catalog_products::id.gt(after.map_or(0, ProductId::get)))
        .order(catalog_products::id)
        .limit(i64::from(limit) + 1)
        .select(Row::as_select())
        .load(conn)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    let items = rows.into_iter().take(limit).map(domain::product).collect::<Result<_, _>>()?;
    Ok(Page { items, more })
}

pub(crate) fn ensure(
    conn: &mut SqliteConnection,
    batch: Vec<ProductDetails>,
    now: Timestamp,
) -> Result<Vec<Ensured<ProductId>>, StoreError> {
    let mut ensured = Vec::with_capacity(batch.len());
    for details in batch {
        let found = catalog_products::table
            .filter(catalog_products::sku.eq(&details.sku))
            .select(catalog_products::id)
            // Not `first`, which SQLite would plan anew for every product of the batch: see `db::Db`.
            .get_result::<i64>(conn)
            .optional()?;
        ensured.push(match found {
            Some(id) => Ensured { id: ProductId::try_from(id).map_err(RowError::Id)?, added: false },
            None => Ensured { id: create(conn, details, now)?.id, added: true },
        });
    }
    Ok(ensured)
}

/// The only unique value that a client sets is the sku.
fn taken(error: Error, sku: &str) -> StoreError {
    match error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => StoreError::SkuTaken(sku.to_owned()),
        other => other.into(),
    }
}
