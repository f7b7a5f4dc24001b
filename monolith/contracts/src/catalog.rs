//! The catalog context: products with a stock-keeping unit, a name and a price that has a history, in categories.

use serde::{Deserialize, Serialize};

use crate::port::PortError;
use crate::users::Ensured;
use crate::{
    CallContext, CategoryId, FieldError, KeyReused, Money, Page, ProductId, Timestamp, Unavailable, port,
    text,
};

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
    /// Grows with every change of this product.
    pub version: i64,
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
    /// What kind of product it is, where that was said.
    pub category_id: Option<CategoryId>,
}

impl ProductDetails {
    /// Checks what a client wrote. All faults are reported, each with its field.
    pub fn parse(
        sku: String,
        name: String,
        price: Money,
        category_id: Option<CategoryId>,
    ) -> Result<Self, Vec<FieldError>> {
        let mut faults = Vec::new();
        text::check(&mut faults, "sku", &sku, 40);
        text::check(&mut faults, "name", &name, 200);
        if price.minor < 1 {
            faults.push(FieldError::new("price.minor", "must be above zero"));
        }
        if faults.is_empty() { Ok(Self { sku, name, price, category_id }) } else { Err(faults) }
    }
}

/// A kind of products.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Category {
    /// Assigned by the context; never given out twice.
    pub id: CategoryId,
    /// What the client may set.
    #[serde(flatten)]
    pub details: CategoryDetails,
    /// Grows with every change of this category.
    pub version: i64,
}

/// What a client may say of a category, checked: see [`CategoryDetails::parse`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryDetails {
    /// What it is called; unique among categories.
    pub name: String,
    /// The category that this one is a part of.
    pub parent_id: Option<CategoryId>,
}

impl CategoryDetails {
    /// Checks what a client wrote. All faults are reported, each with its field.
    pub fn parse(name: String, parent_id: Option<CategoryId>) -> Result<Self, Vec<FieldError>> {
        let mut faults = Vec::new();
        text::check(&mut faults, "name", &name, 200);
        if faults.is_empty() { Ok(Self { name, parent_id }) } else { Err(faults) }
    }
}

/// A price and when it came into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceChange {
    /// Price of one unit from then on.
    pub price: Money,
    /// From when.
    pub since: Timestamp,
    /// The version of the product that brought it: the place in the history.
    pub version: i64,
}

/// Which products are wanted; every condition that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductFilter {
    /// Words of which each must begin a word of name or sku, in any order and without regard to case.
    pub text: Option<String>,
    /// In this category itself.
    pub category_id: Option<CategoryId>,
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
    /// The product was changed since the caller looked.
    #[error("product {id} was changed since")]
    Changed {
        /// The product.
        id: ProductId,
    },
    /// There is no such category.
    #[error("there is no category {id}")]
    NoSuchCategory {
        /// The id given.
        id: CategoryId,
    },
    /// Another category has this name.
    #[error("the name `{name}` is taken by another category")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The category was changed since the caller looked.
    #[error("category {id} was changed since")]
    CategoryChanged {
        /// The category.
        id: CategoryId,
    },
    /// The category would be a part of itself.
    #[error("category {id} would be a part of itself")]
    CategoryCycle {
        /// The category.
        id: CategoryId,
    },
    /// Products or other categories are in the category.
    #[error("category {id} is not empty")]
    CategoryInUse {
        /// The category.
        id: CategoryId,
    },
    /// The client's key belongs to another command.
    #[error(transparent)]
    KeyReused(#[from] KeyReused),
    /// The context could not be asked or failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl PortError for CatalogError {
    fn unavailable(&self) -> Option<&Unavailable> {
        if let Self::Unavailable(cause) = self { Some(cause) } else { None }
    }
}

port! {
/// The catalog context, as others call it. Where `expected` is given, what is at another version is left as it is and
/// answered with [`CatalogError::Changed`] or [`CatalogError::CategoryChanged`].
pub trait Catalog observed by ObservedCatalog in CONTEXT;
{
    /// Stores a new product. Idempotent by the key of the call; without one, the sku keeps a repeat from adding a second.
    async fn create(&self, ctx: &CallContext, details: ProductDetails) -> Result<Product, CatalogError>;

    /// The product with this id.
    async fn get(&self, ctx: &CallContext, id: ProductId) -> Result<Product, CatalogError>;

    /// Those products of the list that exist, in ascending order of id.
    async fn get_many(&self, ctx: &CallContext, ids: Vec<ProductId>) -> Result<Vec<Product>, CatalogError>;

    /// Replaces all details of a product. Another price is kept in the history. Idempotent but for the version.
    async fn update(&self, ctx: &CallContext, id: ProductId, details: ProductDetails, expected: Option<i64>) -> Result<Product, CatalogError>;

    /// Removes a product with its history. A second removal is [`CatalogError::NotFound`].
    async fn delete(&self, ctx: &CallContext, id: ProductId, expected: Option<i64>) -> Result<(), CatalogError>;

    /// Products that pass the filter with an id above `after`, ascending, at most `limit`.
    async fn list(&self, ctx: &CallContext, filter: ProductFilter, after: Option<ProductId>, limit: u32) -> Result<Page<Product>, CatalogError>;

    /// The prices of a product after version `after`, the oldest first, at most `limit`.
    async fn prices(&self, ctx: &CallContext, id: ProductId, after: Option<i64>, limit: u32) -> Result<Page<PriceChange>, CatalogError>;

    /// Stores those products whose sku is not there yet, in one transaction, and returns the ids of all in the
    /// order given, with whether each is new. Idempotent.
    async fn ensure(&self, ctx: &CallContext, batch: Vec<ProductDetails>) -> Result<Vec<Ensured<ProductId>>, CatalogError>;

    /// Stores a new category. Idempotent by the key of the call.
    async fn create_category(&self, ctx: &CallContext, details: CategoryDetails) -> Result<Category, CatalogError>;

    /// The category with this id.
    async fn category(&self, ctx: &CallContext, id: CategoryId) -> Result<Category, CatalogError>;

    /// Replaces all details of a category.
    async fn update_category(&self, ctx: &CallContext, id: CategoryId, details: CategoryDetails, expected: Option<i64>) -> Result<Category, CatalogError>;

    /// Removes an empty category.
    async fn delete_category(&self, ctx: &CallContext, id: CategoryId, expected: Option<i64>) -> Result<(), CatalogError>;

    /// Categories with an id above `after`, ascending, at most `limit`.
    async fn categories(&self, ctx: &CallContext, after: Option<CategoryId>, limit: u32) -> Result<Page<Category>, CatalogError>;
}
}
