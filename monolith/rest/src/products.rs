//! `/api/v1/products`, written against the port [`Catalog`].
//!
//! Invariant: as for every resource, a body that breaks a rule changes nothing.

use std::sync::Arc;

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use contracts::catalog::{Catalog, Product, ProductDetails};
use contracts::{Money, ProductId};
use platform::problem::Problem;
use serde::Deserialize;

use crate::answer::{self, Answer, catalog_problem, unprocessable};
use crate::body::Body;
use crate::object::Object;
use crate::query::{Listing, Parameters};
use crate::request::{PathId, call};

const COLLECTION: &str = "/api/v1/products";
const KIND: &str = "products";

/// Adds the routes of the catalog context.
pub fn configure(config: &mut ServiceConfig, catalog: Arc<dyn Catalog>) {
    let catalog = Data::from(catalog);
    let collection = [web::get().to(list), web::head().to(list), web::post().to(create)];
    answer::resource(config, COLLECTION, "GET, HEAD, POST", collection, |resource| {
        resource.app_data(catalog.clone())
    });
    let item = [web::get().to(read), web::head().to(read), web::put().to(replace), web::delete().to(remove)];
    answer::resource(config, &format!("{COLLECTION}/{{id}}"), "GET, HEAD, PUT, DELETE", item, |resource| {
        resource.app_data(catalog)
    });
}

/// What a client sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProductBody {
    sku: String,
    name: String,
    price: Object<Money>,
}

impl ProductBody {
    fn parse(self) -> Result<ProductDetails, Problem> {
        ProductDetails::parse(self.sku, self.name, self.price.0).map_err(unprocessable)
    }
}

async fn create(request: HttpRequest, catalog: Data<dyn Catalog>, Body(body): Body<ProductBody>) -> Answer {
    let product = catalog.create(&call(&request), body.parse()?).await.map_err(catalog_problem)?;
    Ok(answer::created(COLLECTION, product.id, &product))
}

async fn read(request: HttpRequest, catalog: Data<dyn Catalog>, PathId(id): PathId<ProductId>) -> Answer {
    let product = catalog.get(&call(&request), id).await.map_err(catalog_problem)?;
    Ok(answer::ok(&product))
}

async fn replace(
    request: HttpRequest,
    catalog: Data<dyn Catalog>,
    PathId(id): PathId<ProductId>,
    Body(body): Body<ProductBody>,
) -> Answer {
    let product = catalog.update(&call(&request), id, body.parse()?).await.map_err(catalog_problem)?;
    Ok(answer::ok(&product))
}

async fn remove(request: HttpRequest, catalog: Data<dyn Catalog>, PathId(id): PathId<ProductId>) -> Answer {
    catalog.delete(&call(&request), id).await.map_err(catalog_problem)?;
    Ok(HttpResponse::NoContent().finish())
}

async fn list(request: HttpRequest, catalog: Data<dyn Catalog>) -> Answer {
    let window = Parameters::parse(&request, &["limit", "cursor"])?.window(KIND)?;
    let after = window.after.and_then(|after| ProductId::try_from(after).ok());
    let page = catalog.list(&call(&request), after, window.limit).await.map_err(catalog_problem)?;
    Ok(answer::ok(&Listing::new(KIND, page, |product: &Product| product.id.get(), |product| product)))
}
