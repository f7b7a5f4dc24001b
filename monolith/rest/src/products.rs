//! `/api/v1/products`, written against the port [`Catalog`].
//!
//! Invariant: as for every resource, a body that breaks a rule changes nothing.

use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use contracts::catalog::{Catalog, PriceChange, Product, ProductDetails, ProductFilter};
use contracts::{CategoryId, Money, ProductId, TEXT, Timestamp};
use platform::problem::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answer::{self, Answer, bad_parameter, catalog_problem, unprocessable};
use crate::body::Body;
use crate::command::Command;
use crate::document::Document;
use crate::object::Object;
use crate::operation::{self, Draft, Operation, delete, get, post, put};
use crate::precondition::{expected, tagged};
use crate::query::{LIMIT_MAX, Listing, Parameters};
use crate::request::{PathId, call, part};

const COLLECTION: &str = "/api/v1/products";
const ITEM: &str = "/api/v1/products/{id}";
const PRICES: &str = "/api/v1/products/{id}/prices";
const KIND: &str = "products";

/// Adds the routes of products.
pub fn configure(config: &mut ServiceConfig, catalog: Arc<dyn Catalog>) {
    operation::serve(config, &Data::from(catalog), &operations());
}

/// Adds the operations on products to the document.
pub fn describe(document: &mut Document) {
    document.add("catalog", &operations());
}

fn operations() -> [Operation; 6] {
    let item = |draft: Draft| draft.part::<ProductId>("id", "The product's id.");
    [
        get(
            COLLECTION,
            "list_products",
            "Lists products by id: all, those that are found, or those that are named.",
        )
        .query::<String>("q", "Words; each must begin a word of name or sku.")
        .query::<CategoryId>("category_id", "Only those in this category.")
        .query::<String>("ids", "Only these, separated by commas; alone, at most 200.")
        .pages::<ProductView>()
        .to(list),
        post(COLLECTION, "create_product", "Adds a product.")
            .body::<ProductBody>()
            .creates::<ProductView>()
            .tagged()
            .refuses([409])
            .to(create),
        item(get(ITEM, "read_product", "Shows a product.")).returns::<ProductView>().tagged().to(read),
        item(put(ITEM, "replace_product", "Replaces all details of a product."))
            .body::<ProductBody>()
            .returns::<ProductView>()
            .tagged()
            .guarded()
            .refuses([409])
            .to(replace),
        item(delete(ITEM, "delete_product", "Removes a product.")).guarded().to(remove),
        item(get(PRICES, "list_prices", "Lists what a product has cost, the oldest price first."))
            .pages::<PriceView>()
            .to(prices),
    ]
}

/// What a client sends.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProductBody {
    /// Stock-keeping unit, unique among products.
    #[schemars(length(min = 1, max = 40), regex(pattern = TEXT))]
    sku: String,
    /// What it is called.
    #[schemars(length(min = 1, max = 200), regex(pattern = TEXT))]
    name: String,
    /// Price of one unit; above zero.
    price: Object<Money>,
    /// What kind of product it is.
    category_id: Option<CategoryId>,
}

impl ProductBody {
    fn parse(self) -> Result<ProductDetails, Problem> {
        ProductDetails::parse(self.sku, self.name, self.price.0, self.category_id).map_err(unprocessable)
    }
}

/// What a client sees.
#[derive(Debug, Serialize, JsonSchema)]
struct ProductView {
    id: ProductId,
    sku: String,
    name: String,
    price: Money,
    category_id: Option<CategoryId>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Product> for ProductView {
    fn from(product: Product) -> Self {
        let Product { id, details, created_at, updated_at, version: _ } = product;
        let ProductDetails { sku, name, price, category_id } = details;
        Self { id, sku, name, price, category_id, created_at, updated_at }
    }
}

/// A price and when it came into force.
#[derive(Debug, Serialize, JsonSchema)]
struct PriceView {
    price: Money,
    since: Timestamp,
}

async fn create(catalog: Data<dyn Catalog>, command: Command<ProductBody>) -> Answer {
    let product = catalog.create(&command.ctx, command.body.parse()?).await.map_err(catalog_problem)?;
    Ok(answer::created_tagged(COLLECTION, product.id, product.version, &ProductView::from(product)))
}

async fn read(request: HttpRequest, catalog: Data<dyn Catalog>, PathId(id): PathId<ProductId>) -> Answer {
    let product = catalog.get(&call(&request), id).await.map_err(catalog_problem)?;
    tagged(&request, product.version, &ProductView::from(product))
}

async fn replace(
    request: HttpRequest,
    catalog: Data<dyn Catalog>,
    PathId(id): PathId<ProductId>,
    Body(body): Body<ProductBody>,
) -> Answer {
    let (details, expected) = (body.parse()?, expected(&request)?);
    let product = catalog.update(&call(&request), id, details, expected).await.map_err(catalog_problem)?;
    tagged(&request, product.version, &ProductView::from(product))
}

async fn remove(request: HttpRequest, catalog: Data<dyn Catalog>, PathId(id): PathId<ProductId>) -> Answer {
    catalog.delete(&call(&request), id, expected(&request)?).await.map_err(catalog_problem)?;
    Ok(HttpResponse::NoContent().finish())
}

async fn list(request: HttpRequest, catalog: Data<dyn Catalog>) -> Answer {
    let parameters = Parameters::parse(&request, &["q", "category_id", "ids", "limit", "cursor"])?;
    if let Some(text) = parameters.get("ids") {
        let only_ids =
            ["q", "category_id", "limit", "cursor"].iter().all(|name| parameters.get(name).is_none());
        if !only_ids {
            return Err(bad_parameter("ids", "must stand alone"));
        }
        let found = catalog.get_many(&call(&request), ids(text)?).await.map_err(catalog_problem)?;
        return Ok(answer::ok(&Listing::whole(found.into_iter().map(ProductView::from).collect())));
    }
    let window = parameters.window(KIND)?;
    let filter = ProductFilter {
        text: parameters.get("q").map(str::to_owned),
        category_id: parameters.parsed("category_id")?,
    };
    let after = window.after.and_then(|after| ProductId::try_from(after).ok());
    let page = catalog.list(&call(&request), filter, after, window.limit).await.map_err(catalog_problem)?;
    Ok(answer::ok(&Listing::new(KIND, page, |product: &Product| product.id.get(), ProductView::from)))
}

async fn prices(request: HttpRequest, catalog: Data<dyn Catalog>) -> Answer {
    let window = Parameters::parse(&request, &["limit", "cursor"])?.window("prices")?;
    let id: ProductId = part(&request, "id")?;
    let page =
        catalog.prices(&call(&request), id, window.after, window.limit).await.map_err(catalog_problem)?;
    let view = |change: PriceChange| PriceView { price: change.price, since: change.since };
    Ok(answer::ok(&Listing::new("prices", page, |change: &PriceChange| change.version, view)))
}

fn ids(text: &str) -> Result<Vec<ProductId>, Problem> {
    let ids: Result<Vec<ProductId>, _> = text.split(',').map(str::parse).collect();
    let ids = ids.map_err(|error| bad_parameter("ids", error.to_string()))?;
    if u32::try_from(ids.len()).is_ok_and(|count| count <= LIMIT_MAX) {
        return Ok(ids);
    }
    Err(bad_parameter("ids", format!("must name at most {LIMIT_MAX} products")))
}
