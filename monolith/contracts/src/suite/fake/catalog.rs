//! A catalog in memory.
//!
//! Invariant: shows every fact of the port's suite.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{EPOCH, Keys, page};
use crate::catalog::{
    Catalog, CatalogError, Category, CategoryDetails, PriceChange, Product, ProductDetails, ProductFilter,
};
use crate::users::Ensured;
use crate::{CallContext, CategoryId, Page, ProductId};

/// A catalog in memory.
#[derive(Debug, Default)]
pub struct FakeCatalog {
    state: Mutex<State>,
    keys: Keys,
}

#[derive(Debug, Clone, Default)]
struct State {
    products: BTreeMap<ProductId, Product>,
    prices: BTreeMap<ProductId, Vec<PriceChange>>,
    categories: BTreeMap<CategoryId, Category>,
    ids: i64,
}

impl State {
    fn create(&mut self, details: ProductDetails) -> Result<Product, CatalogError> {
        self.check(None, &details)?;
        let id = ProductId::try_from(self.next_id()).map_err(|error| missing(&error))?;
        let product = Product { id, details, created_at: EPOCH, updated_at: EPOCH, version: 1 };
        self.put(product.clone());
        Ok(product)
    }

    fn put(&mut self, product: Product) {
        let (price, version) = (product.details.price, product.version);
        let history = self.prices.entry(product.id).or_default();
        if history.last().is_none_or(|last| last.price != price) {
            history.push(PriceChange { price, since: EPOCH, version });
        }
        self.products.insert(product.id, product);
    }

    fn check(&self, id: Option<ProductId>, details: &ProductDetails) -> Result<(), CatalogError> {
        let taken = |product: &Product| product.details.sku == details.sku && Some(product.id) != id;
        if self.products.values().any(taken) {
            return Err(CatalogError::SkuTaken { sku: details.sku.clone() });
        }
        match details.category_id {
            Some(category) => self.category(category, None).map(drop),
            None => Ok(()),
        }
    }

    fn product(&self, id: ProductId, expected: Option<i64>) -> Result<&Product, CatalogError> {
        let product = self.products.get(&id).ok_or(CatalogError::NotFound { id })?;
        if expected.is_some_and(|expected| expected != product.version) {
            return Err(CatalogError::Changed { id });
        }
        Ok(product)
    }

    fn category(&self, id: CategoryId, expected: Option<i64>) -> Result<&Category, CatalogError> {
        let category = self.categories.get(&id).ok_or(CatalogError::NoSuchCategory { id })?;
        if expected.is_some_and(|expected| expected != category.version) {
            return Err(CatalogError::CategoryChanged { id });
        }
        Ok(category)
    }

    fn check_category(&self, id: Option<CategoryId>, details: &CategoryDetails) -> Result<(), CatalogError> {
        let mut above = details.parent_id;
        while let Some(parent) = above {
            if Some(parent) == id {
                return Err(CatalogError::CategoryCycle { id: parent });
            }
            above = self.category(parent, None)?.details.parent_id;
        }
        let taken = |category: &&Category| category.details.name == details.name && Some(category.id) != id;
        match self.categories.values().find(taken) {
            Some(_) => Err(CatalogError::NameTaken { name: details.name.clone() }),
            None => Ok(()),
        }
    }

    fn is_in_use(&self, id: CategoryId) -> bool {
        self.products.values().any(|product| product.details.category_id == Some(id))
            || self.categories.values().any(|category| category.details.parent_id == Some(id))
    }

    fn next_id(&mut self) -> i64 {
        self.ids += 1;
        self.ids
    }
}

impl FakeCatalog {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Catalog for FakeCatalog {
    async fn create(&self, ctx: &CallContext, details: ProductDetails) -> Result<Product, CatalogError> {
        if let Some(product) = self.keys.found(ctx, "create")? {
            return Ok(product);
        }
        let product = self.state().create(details)?;
        Ok(self.keys.keep(ctx, "create", product))
    }

    async fn get(&self, _: &CallContext, id: ProductId) -> Result<Product, CatalogError> {
        self.state().product(id, None).cloned()
    }

    async fn get_many(&self, _: &CallContext, ids: Vec<ProductId>) -> Result<Vec<Product>, CatalogError> {
        let state = self.state();
        Ok(state.products.values().filter(|product| ids.contains(&product.id)).cloned().collect())
    }

    async fn update(
        &self,
        _: &CallContext,
        id: ProductId,
        details: ProductDetails,
        expected: Option<i64>,
    ) -> Result<Product, CatalogError> {
        let mut state = self.state();
        let before = state.product(id, expected)?.clone();
        state.check(Some(id), &details)?;
        let product = Product { details, version: before.version + 1, ..before };
        state.put(product.clone());
        Ok(product)
    }

    async fn delete(
        &self,
        _: &CallContext,
        id: ProductId,
        expected: Option<i64>,
    ) -> Result<(), CatalogError> {
        let mut state = self.state();
        state.product(id, expected)?;
        state.products.remove(&id);
        state.prices.remove(&id);
        Ok(())
    }

    async fn list(
        &self,
        _: &CallContext,
        filter: ProductFilter,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Page<Product>, CatalogError> {
        let state = self.state();
        let wanted =
            state.products.values().filter(|product| Some(product.id) > after && passes(&filter, product));
        Ok(page(wanted.cloned(), limit))
    }

    async fn prices(
        &self,
        _: &CallContext,
        id: ProductId,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Page<PriceChange>, CatalogError> {
        let state = self.state();
        let history = state.prices.get(&id).ok_or(CatalogError::NotFound { id })?;
        Ok(page(history.iter().filter(|change| Some(change.version) > after).copied(), limit))
    }

    async fn ensure(
        &self,
        _: &CallContext,
        batch: Vec<ProductDetails>,
    ) -> Result<Vec<Ensured<ProductId>>, CatalogError> {
        let mut state = self.state();
        let mut after = state.clone();
        let ensure = |details: ProductDetails| {
            let there = after.products.values().find(|product| product.details.sku == details.sku);
            if let Some(product) = there {
                return Ok(Ensured { id: product.id, added: false });
            }
            Ok(Ensured { id: after.create(details)?.id, added: true })
        };
        let ensured = batch.into_iter().map(ensure).collect::<Result<_, CatalogError>>()?;
        *state = after;
        Ok(ensured)
    }

    async fn create_category(
        &self,
        ctx: &CallContext,
        details: CategoryDetails,
    ) -> Result<Category, CatalogError> {
        if let Some(category) = self.keys.found(ctx, "create_category")? {
            return Ok(category);
        }
        let mut state = self.state();
        state.check_category(None, &details)?;
        let id = CategoryId::try_from(state.next_id()).map_err(|error| missing(&error))?;
        let category = Category { id, details, version: 1 };
        state.categories.insert(id, category.clone());
        Ok(self.keys.keep(ctx, "create_category", category))
    }

    async fn category(&self, _: &CallContext, id: CategoryId) -> Result<Category, CatalogError> {
        self.state().category(id, None).cloned()
    }

    async fn update_category(
        &self,
        _: &CallContext,
        id: CategoryId,
        details: CategoryDetails,
        expected: Option<i64>,
    ) -> Result<Category, CatalogError> {
        let mut state = self.state();
        let version = state.category(id, expected)?.version + 1;
        state.check_category(Some(id), &details)?;
        let category = Category { id, details, version };
        state.categories.insert(id, category.clone());
        Ok(category)
    }

    async fn delete_category(
        &self,
        _: &CallContext,
        id: CategoryId,
        expected: Option<i64>,
    ) -> Result<(), CatalogError> {
        let mut state = self.state();
        state.category(id, expected)?;
        if state.is_in_use(id) {
            return Err(CatalogError::CategoryInUse { id });
        }
        state.categories.remove(&id);
        Ok(())
    }

    async fn categories(
        &self,
        _: &CallContext,
        after: Option<CategoryId>,
        limit: u32,
    ) -> Result<Page<Category>, CatalogError> {
        let state = self.state();
        Ok(page(state.categories.values().filter(|category| Some(category.id) > after).cloned(), limit))
    }
}

fn passes(filter: &ProductFilter, product: &Product) -> bool {
    let ProductDetails { sku, name, category_id, .. } = &product.details;
    let in_category = filter.category_id.is_none_or(|wanted| *category_id == Some(wanted));
    let has_words = filter.text.as_ref().is_none_or(|text| {
        let (wanted, there) = (words(text), words(&format!("{name} {sku}")));
        let begins_one = |word: &String| there.iter().any(|other| other.starts_with(word.as_str()));
        !wanted.is_empty() && wanted.iter().all(begins_one)
    });
    in_category && has_words
}

/// Upper case first, since some letters have two lower cases: the two sigmas, `ss` and `ß`.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| word.to_uppercase().chars().flat_map(char::to_lowercase).collect()).collect()
}

fn missing(error: &crate::IdError) -> CatalogError {
    let (context, reason) = (crate::catalog::CONTEXT.to_owned(), error.to_string());
    crate::Unavailable { context, reason, maybe_done: false }.into()
}
