//! The form in which the tables hold products, prices and categories.
//!
//! Invariant: a row that names no currency or no id is reported, never guessed at.

use contracts::catalog::{Category, CategoryDetails, PriceChange, Product, ProductDetails};
use contracts::{CategoryId, Currency, IdError, Money, MoneyError, ProductId, Timestamp};
use diesel::prelude::{AsChangeset, Insertable, Queryable, Selectable};

use crate::schema::{catalog_categories, catalog_prices, catalog_products};
use crate::search;

/// One row of `catalog_products`, without what only a search reads.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = catalog_products)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) price_minor: i64,
    pub(crate) price_currency: String,
    pub(crate) created_at_ms: i64,
    pub(crate) updated_at_ms: i64,
    pub(crate) category_id: Option<i64>,
    pub(crate) version: i64,
}

/// The part of a row that follows from what a client sets.
#[derive(Debug, Insertable, AsChangeset)]
#[diesel(table_name = catalog_products, treat_none_as_null = true)]
pub(crate) struct DetailsRow<'a> {
    pub(crate) sku: &'a str,
    pub(crate) name: &'a str,
    pub(crate) price_minor: i64,
    pub(crate) price_currency: &'a str,
    pub(crate) category_id: Option<i64>,
    pub(crate) words: String,
}

/// One row of `catalog_prices`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = catalog_prices)]
pub(crate) struct PriceRow {
    pub(crate) product_id: i64,
    pub(crate) version: i64,
    pub(crate) price_minor: i64,
    pub(crate) price_currency: String,
    pub(crate) since_ms: i64,
}

/// One row of `catalog_categories`.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = catalog_categories)]
pub(crate) struct CategoryRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) parent_id: Option<i64>,
    pub(crate) version: i64,
}

/// The part of a category's row that a client sets.
#[derive(Debug, Insertable, AsChangeset)]
#[diesel(table_name = catalog_categories, treat_none_as_null = true)]
pub(crate) struct CategoryDetailsRow<'a> {
    pub(crate) name: &'a str,
    pub(crate) parent_id: Option<i64>,
}

/// Why a row is not one that this program wrote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error("an id")]
    Id(#[from] IdError),
    #[error("a currency")]
    Currency(#[from] MoneyError),
}

/// The columns of a product's details.
pub(crate) fn details_row(details: &ProductDetails) -> DetailsRow<'_> {
    DetailsRow {
        sku: &details.sku,
        name: &details.name,
        price_minor: details.price.minor,
        price_currency: details.price.currency.code(),
        category_id: details.category_id.map(CategoryId::get),
        words: search::stored(&details.name, &details.sku),
    }
}

/// The product of a row.
pub(crate) fn product(row: Row) -> Result<Product, RowError> {
    Ok(Product {
        id: ProductId::try_from(row.id)?,
        details: ProductDetails {
            sku: row.sku,
            name: row.name,
            price: price(row.price_minor, row.price_currency)?,
            category_id: row.category_id.map(CategoryId::try_from).transpose()?,
        },
        created_at: Timestamp::from_millis(row.created_at_ms),
        updated_at: Timestamp::from_millis(row.updated_at_ms),
        version: row.version,
    })
}

/// The row that says since when the product has its price.
pub(crate) fn price_row(product: &Product) -> PriceRow {
    PriceRow {
        product_id: product.id.get(),
        version: product.version,
        price_minor: product.details.price.minor,
        price_currency: product.details.price.currency.into(),
        since_ms: product.updated_at.as_millis(),
    }
}

/// The price of a row.
pub(crate) fn price_change(row: PriceRow) -> Result<PriceChange, RowError> {
    let price = price(row.price_minor, row.price_currency)?;
    Ok(PriceChange { price, since: Timestamp::from_millis(row.since_ms), version: row.version })
}

/// The columns of a category's details.
pub(crate) fn category_details_row(details: &CategoryDetails) -> CategoryDetailsRow<'_> {
    CategoryDetailsRow { name: &details.name, parent_id: details.parent_id.map(CategoryId::get) }
}

/// The category of a row.
pub(crate) fn category(row: CategoryRow) -> Result<Category, RowError> {
    let parent_id = row.parent_id.map(CategoryId::try_from).transpose()?;
    Ok(Category {
        id: CategoryId::try_from(row.id)?,
        details: CategoryDetails { name: row.name, parent_id },
        version: row.version,
    })
}

fn price(minor: i64, currency: String) -> Result<Money, RowError> {
    Ok(Money { minor, currency: Currency::try_from(currency)? })
}
