//! Listings of products and of their prices, and the index of words behind the search.
//!
//! Invariant: a page is found by its key, never by counting rows.

use contracts::catalog::{CatalogError, PriceChange, Product, ProductFilter};
use contracts::{CategoryId, Page, ProductId};
use db::{Backend, Conn, MultiBackend};
use diesel::dsl::{exists, select, sql};
use diesel::sql_types::{Bool, Text};
use diesel::{ExpressionMethods, QueryDsl, RunQueryDsl, SelectableHelper};

use super::{StoreError, page};
use crate::domain::{self, PriceRow, Row};
use crate::schema::{catalog_prices, catalog_products};
use crate::search::{self, Query};

/// Products that [`index`] takes at once: far less than what would keep others waiting.
const INDEXED_AT_ONCE: i64 = 500;

pub(crate) fn list(
    conn: &mut Conn,
    filter: &ProductFilter,
    after: Option<ProductId>,
    limit: u32,
) -> Result<Page<Product>, StoreError> {
    let mut wanted = catalog_products::table
        .filter(catalog_products::id.gt(after.map_or(0, ProductId::get)))
        .order(catalog_products::id)
        .limit(i64::from(limit) + 1)
        .select(Row::as_select())
        .into_boxed::<MultiBackend>();
    if let Some(id) = filter.category_id {
        wanted = wanted.filter(catalog_products::category_id.eq(CategoryId::get(id)));
    }
    if let Some(text) = &filter.text {
        let Some(query) = Query::parse(text) else { return Ok(Page { items: Vec::new(), more: false }) };
        let (backend, before, behind) = match conn {
            Conn::Sqlite(_) => {
                let found =
                    "catalog_products.id IN (SELECT rowid FROM catalog_search WHERE catalog_search MATCH ";
                (Backend::Sqlite, found, ")")
            }
            Conn::Postgres(_) => (Backend::Postgres, "catalog_products.search @@ ", "::tsquery"),
        };
        wanted = wanted.filter(sql::<Bool>(before).bind::<Text, _>(query.text(backend)).sql(behind));
    }
    page(wanted.load(conn)?, limit, domain::product)
}

pub(crate) fn prices(
    conn: &mut Conn,
    id: ProductId,
    after: Option<i64>,
    limit: u32,
) -> Result<Page<PriceChange>, StoreError> {
    let rows: Vec<PriceRow> = catalog_prices::table
        .filter(catalog_prices::product_id.eq(id.get()))
        .filter(catalog_prices::version.gt(after.unwrap_or(0)))
        .order(catalog_prices::version)
        .limit(i64::from(limit) + 1)
        .select(PriceRow::as_select())
        .load(conn)?;
    if rows.is_empty() && !select(exists(catalog_products::table.find(id.get()))).get_result::<bool>(conn)? {
        return Err(CatalogError::NotFound { id }.into());
    }
    page(rows, limit, domain::price_change)
}

/// Stores the words of some products that have none yet, and returns how many.
pub(crate) fn index(conn: &mut Conn) -> Result<usize, StoreError> {
    let wordless: Vec<(i64, String, String)> = db::for_update!(
        conn,
        catalog_products::table
            .filter(catalog_products::words.is_null())
            .order(catalog_products::id)
            .limit(INDEXED_AT_ONCE)
            .select((catalog_products::id, catalog_products::name, catalog_products::sku)),
        load
    )?;
    for (id, name, sku) in &wordless {
        diesel::update(catalog_products::table.find(id))
            .set(catalog_products::words.eq(search::stored(name, sku)))
            .execute(conn)?;
    }
    Ok(wordless.len())
}
