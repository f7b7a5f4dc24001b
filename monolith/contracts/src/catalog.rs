//! The catalog context: products with a stock-keeping unit, a name and a price.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::users::Ensured;
use crate::{CallContext, FieldError, Money, Page, ProductId, Timestamp, Unavailable};

/// The context's name, as flags, routes and mappings know it.
pub const CONTEXT: &str = "catalog";

/// A product as the context holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Assigned by the context; never given out twice.
    pub id: ProductId,
    /// What the client may set.
    #[serde(flatten)]
    pub details: ProductDetails,
    /// When the product was first stored.
    pub created_at: Timestamp,
    /// When the product was last changed.
    pub updated_at: Timestamp,
}

/// What a client may say of a product, checked: see [`ProductDetails::parse`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductDetails {
    /// Stock-keeping unit, unique among products.
    pub sku: String,
    /// What the product is called.
    pub name: String,
    /// Price of one unit; above zero.
    pub price: Money,
}

impl ProductDetails {
    /// Checks what a client wrote. All faults are reported, each with its field.
    pub fn parse(sku: String, name: String, price: Money) -> Result<Self, Vec<FieldError>> {
        let mut faults = Vec::new();
        for (field, text, max) in [("sku", &sku, 40), ("name", &name, 200)] {
            if text.trim().is_empty() || text.trim() != text {
                faults.push(FieldError::new(field, "must not be empty nor begin or end with a blank"));
            } else if text.chars().count() > max || text.chars().any(char::is_control) {
                let rule = format!("must have at most {max} characters, none of them a control character");
                faults.push(FieldError::new(field, rule));
            }
        }
        if price.minor < 1 {
            faults.push(FieldError::new("price.minor", "must be above zero"));
        }
        if faults.is_empty() { Ok(Self { sku, name, price }) } else { Err(faults) }
    }
}

/// What went wrong in a call to [`Catalog`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum CatalogError {
    /// There is no such product, or no longer.
    #[error("there is no product {id}")]
    NotFound {
        /// The id asked for.
        id: ProductId,
    },
    /// Another product has this stock-keeping unit.
    #[error("the sku `{sku}` is taken by another product")]
    SkuTaken {
        /// The unit.
        sku: String,
    },
    /// The context could not be asked or failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The catalog context, as others call it.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Stores a new product; its sku keeps a repeated call from adding a second.
    async fn create(&self, ctx: &CallContext, details: ProductDetails) -> Result<Product, CatalogError>;

    /// The product with this id.
    async fn get(&self, ctx: &CallContext, id: ProductId) -> Result<Product, CatalogError>;

    /// Those products of the list that exist, in ascending order of id.
    async fn get_many(&self, ctx: &CallContext, ids: Vec<ProductId>) -> Result<Vec<Product>, CatalogError>;

    /// Replaces all details of a product. Idempotent.
    async fn update(
        &self,
        ctx: &CallContext,
        id: ProductId,
        details: ProductDetails,
    ) -> Result<Product, CatalogError>;

    /// Removes a product. A second removal is [`CatalogError::NotFound`].
    async fn delete(&self, ctx: &CallContext, id: ProductId) -> Result<(), CatalogError>;

    /// Products with an id above `after`, ascending, at most `limit`.
    async fn list(
        &self,
        ctx: &CallContext,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Page<Product>, CatalogError>;

    /// Stores those products whose sku is not there yet, in one transaction, and returns the ids of all in the
    /// order given, with whether each is new. Idempotent.
    async fn ensure(
        &self,
        ctx: &CallContext,
        batch: Vec<ProductDetails>,
    ) -> Result<Vec<Ensured<ProductId>>, CatalogError>;
}
