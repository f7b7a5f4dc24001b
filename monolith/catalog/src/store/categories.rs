//! The statements that concern categories.
//!
//! Invariant: a foreign key keeps a category that is in use, and parents are changed one at a time, so no two changes can
//! close a circle together.

use contracts::catalog::{CatalogError, Category, CategoryDetails};
use contracts::{CategoryId, Page};
use db::Conn;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{BigInt, Bool};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, QueryableByName, RunQueryDsl,
    SelectableHelper, sql_query,
};

use super::{StoreError, page};
use crate::domain::{self, CategoryRow, RowError};
use crate::schema::catalog_categories;

pub(crate) fn create_category(conn: &mut Conn, details: CategoryDetails) -> Result<Category, StoreError> {
    if let Some(parent) = details.parent_id {
        // The foreign key would let a category be its own parent, if it guessed the number that it is about to get.
        category(conn, parent)?;
    }
    let id: i64 = diesel::insert_into(catalog_categories::table)
        .values((domain::category_details_row(&details), catalog_categories::version.eq(1)))
        .returning(catalog_categories::id)
        .get_result(conn)
        .map_err(|error| refused(error, &details))?;
    Ok(Category { id: CategoryId::try_from(id).map_err(RowError::Id)?, details, version: 1 })
}

pub(crate) fn category(conn: &mut Conn, id: CategoryId) -> Result<Category, StoreError> {
    let found = catalog_categories::table.find(id.get()).select(CategoryRow::as_select());
    let row = found.get_result(conn).optional()?;
    Ok(domain::category(row.ok_or(CatalogError::NoSuchCategory { id })?)?)
}

pub(crate) fn update_category(
    conn: &mut Conn,
    id: CategoryId,
    details: CategoryDetails,
    expected: Option<i64>,
) -> Result<Category, StoreError> {
    exclude_other_changes(conn)?;
    let before = at(conn, id, expected)?;
    if let Some(parent) = details.parent_id
        && is_above(conn, id, parent)?
    {
        return Err(CatalogError::CategoryCycle { id }.into());
    }
    let after = Category { id, details, version: before.version + 1 };
    diesel::update(catalog_categories::table.find(id.get()))
        .set((domain::category_details_row(&after.details), catalog_categories::version.eq(after.version)))
        .execute(conn)
        .map_err(|error| refused(error, &after.details))?;
    Ok(after)
}

pub(crate) fn delete_category(
    conn: &mut Conn,
    id: CategoryId,
    expected: Option<i64>,
) -> Result<(), StoreError> {
    exclude_other_changes(conn)?;
    at(conn, id, expected)?;
    let deleted = diesel::delete(catalog_categories::table.find(id.get())).execute(conn);
    deleted.map(drop).map_err(|error| match error {
        Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _) => {
            CatalogError::CategoryInUse { id }.into()
        }
        other => other.into(),
    })
}

pub(crate) fn categories(
    conn: &mut Conn,
    after: Option<CategoryId>,
    limit: u32,
) -> Result<Page<Category>, StoreError> {
    let rows: Vec<CategoryRow> = catalog_categories::table
        .filter(catalog_categories::id.gt(after.map_or(0, CategoryId::get)))
        .order(catalog_categories::id)
        .limit(i64::from(limit) + 1)
        .select(CategoryRow::as_select())
        .load(conn)?;
    page(rows, limit, domain::category)
}

fn at(conn: &mut Conn, id: CategoryId, expected: Option<i64>) -> Result<Category, StoreError> {
    let category = category(conn, id)?;
    if expected.is_some_and(|expected| expected != category.version) {
        return Err(CatalogError::CategoryChanged { id }.into());
    }
    Ok(category)
}

/// Waits until nobody else changes categories. Readers, and products that come into a category, pass.
fn exclude_other_changes(conn: &mut Conn) -> QueryResult<()> {
    if let Conn::Postgres(conn) = conn {
        sql_query("LOCK TABLE catalog_categories IN SHARE ROW EXCLUSIVE MODE").execute(conn)?;
    }
    Ok(())
}

/// Whether `id` is `part` itself or one of those that `part` belongs to.
fn is_above(conn: &mut Conn, id: CategoryId, part: CategoryId) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Answer {
        #[diesel(sql_type = Bool)]
        found: bool,
    }
    let answer: Answer = sql_query(
        "WITH RECURSIVE above (id) AS (
             SELECT id FROM catalog_categories WHERE id = $1
             UNION SELECT parent_id FROM catalog_categories JOIN above USING (id) WHERE parent_id IS NOT NULL
         ) SELECT EXISTS (SELECT 1 FROM above WHERE id = $2) AS found",
    )
    .bind::<BigInt, _>(part.get())
    .bind::<BigInt, _>(id.get())
    .get_result(conn)?;
    Ok(answer.found)
}

/// The only unique value that a client sets is the name, the only reference the parent.
fn refused(error: Error, details: &CategoryDetails) -> StoreError {
    match (error, details.parent_id) {
        (Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _), _) => {
            CatalogError::NameTaken { name: details.name.clone() }.into()
        }
        (Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _), Some(id)) => {
            CatalogError::NoSuchCategory { id }.into()
        }
        (other, _) => other.into(),
    }
}
