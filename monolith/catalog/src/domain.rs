//! The form in which the table holds a product.
//!
//! Invariant: a row that names no currency or no id is reported, never guessed at.

use contracts::catalog::{Product, ProductDetails};
use contracts::{Currency, IdError, Money, MoneyError, ProductId, Timestamp};
use diesel::prelude::{AsChangeset, Insertable, Queryable, Selectable};

use crate::schema::catalog_products;

/// One row of `catalog_products`.
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
}

/// The part of a row that a client sets.
#[derive(Debug, Insertable, AsChangeset)]
#[diesel(table_name = catalog_products)]
pub(crate) struct DetailsRow<'a> {
    pub(crate) sku: &'a str,
    pub(crate) name: &'a str,
    pub(crate) price_minor: i64,
    pub(crate) price_currency: &'a str,
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
    }
}

/// The product of a row.
pub(crate) fn product(row: Row) -> Result<Product, RowError> {
    let currency = Currency::try_from(row.price_currency)?;
    Ok(Product {
        id: ProductId::try_from(row.id)?,
        details: ProductDetails {
            sku: row.sku,
            name: row.name,
            price: Money { minor: row.price_minor, currency },
        },
        created_at: Timestamp::from_millis(row.created_at_ms),
        updated_at: Timestamp::from_millis(row.updated_at_ms),
    })
}
