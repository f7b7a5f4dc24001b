//! `/api/v1/categories`, written against the port [`Catalog`].
//!
//! Invariant: a category is removed only while nothing is in it.

use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use contracts::catalog::{Catalog, CatalogError, Category, CategoryDetails};
use contracts::{CategoryId, FieldError, TEXT};
use platform::problem::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answer::{self, Answer, catalog_problem, missing, unprocessable};
use crate::body::Body;
use crate::command::Command;
use crate::document::Document;
use crate::operation::{self, Draft, Operation, delete, get, post, put};
use crate::precondition::{expected, tagged};
use crate::query::{Listing, Parameters};
use crate::request::{PathId, call};

const COLLECTION: &str = "/api/v1/categories";
const ITEM: &str = "/api/v1/categories/{id}";
const KIND: &str = "categories";

/// Adds the routes of categories.
pub fn configure(config: &mut ServiceConfig, catalog: Arc<dyn Catalog>) {
    operation::serve(config, &Data::from(catalog), &operations());
}

/// Adds the operations on categories to the document.
pub fn describe(document: &mut Document) {
    document.add("catalog", &operations());
}

fn operations() -> [Operation; 5] {
    let item = |draft: Draft| draft.part::<CategoryId>("id", "The category's id.");
    [
        get(COLLECTION, "list_categories", "Lists categories by id.").pages::<CategoryView>().to(list),
        post(COLLECTION, "create_category", "Adds a category.")
            .body::<CategoryBody>()
            .creates::<CategoryView>()
            .tagged()
            .refuses([409])
            .to(create),
        item(get(ITEM, "read_category", "Shows a category.")).returns::<CategoryView>().tagged().to(read),
        item(put(ITEM, "replace_category", "Replaces all details of a category."))
            .body::<CategoryBody>()
            .returns::<CategoryView>()
            .tagged()
            .guarded()
            .refuses([409])
            .to(replace),
        item(delete(ITEM, "delete_category", "Removes an empty category."))
            .guarded()
            .refuses([409])
            .to(remove),
    ]
}

/// What a client sends.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CategoryBody {
    /// Unique among categories.
    #[schemars(length(min = 1, max = 200), regex(pattern = TEXT))]
    name: String,
    /// The category that this one is a part of.
    parent_id: Option<CategoryId>,
}

impl CategoryBody {
    fn parse(self) -> Result<CategoryDetails, Problem> {
        CategoryDetails::parse(self.name, self.parent_id).map_err(unprocessable)
    }
}

/// What a client sees.
#[derive(Debug, Serialize, JsonSchema)]
struct CategoryView {
    id: CategoryId,
    name: String,
    parent_id: Option<CategoryId>,
}

impl From<Category> for CategoryView {
    fn from(category: Category) -> Self {
        let Category { id, details: CategoryDetails { name, parent_id }, version: _ } = category;
        Self { id, name, parent_id }
    }
}

/// For calls that are about the category of the path: there, a category that is not there is not a field at fault.
fn problem_of(id: CategoryId) -> impl Fn(CatalogError) -> Problem {
    move |error| match &error {
        CatalogError::NoSuchCategory { id: other } if *other == id => missing(error.to_string()),
        CatalogError::NoSuchCategory { .. } => {
            unprocessable(vec![FieldError::new("parent_id", error.to_string())])
        }
        _ => catalog_problem(error),
    }
}

async fn create(catalog: Data<dyn Catalog>, command: Command<CategoryBody>) -> Answer {
    let details = command.body.parse()?;
    let created = catalog.create_category(&command.ctx, details).await;
    let category = created.map_err(|error| match error {
        CatalogError::NoSuchCategory { .. } => {
            unprocessable(vec![FieldError::new("parent_id", error.to_string())])
        }
        error => catalog_problem(error),
    })?;
    let (id, version) = (category.id, category.version);
    Ok(answer::created_tagged(COLLECTION, id, version, &CategoryView::from(category)))
}

async fn read(request: HttpRequest, catalog: Data<dyn Catalog>, PathId(id): PathId<CategoryId>) -> Answer {
    let category = catalog.category(&call(&request), id).await.map_err(problem_of(id))?;
    tagged(&request, category.version, &CategoryView::from(category))
}

async fn replace(
    request: HttpRequest,
    catalog: Data<dyn Catalog>,
    PathId(id): PathId<CategoryId>,
    Body(body): Body<CategoryBody>,
) -> Answer {
    let (details, expected) = (body.parse()?, expected(&request)?);
    let updated = catalog.update_category(&call(&request), id, details, expected).await;
    let category = updated.map_err(problem_of(id))?;
    tagged(&request, category.version, &CategoryView::from(category))
}

async fn remove(request: HttpRequest, catalog: Data<dyn Catalog>, PathId(id): PathId<CategoryId>) -> Answer {
    let expected = expected(&request)?;
    catalog.delete_category(&call(&request), id, expected).await.map_err(problem_of(id))?;
    Ok(HttpResponse::NoContent().finish())
}

async fn list(request: HttpRequest, catalog: Data<dyn Catalog>) -> Answer {
    let window = Parameters::parse(&request, &["limit", "cursor"])?.window(KIND)?;
    let after = window.after.and_then(|after| CategoryId::try_from(after).ok());
    let page = catalog.categories(&call(&request), after, window.limit).await.map_err(catalog_problem)?;
    Ok(answer::ok(&Listing::new(KIND, page, |category: &Category| category.id.get(), CategoryView::from)))
}
