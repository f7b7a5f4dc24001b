//! How handlers answer: documents with their status, and errors of the ports as problem documents.
//!
//! Invariant: the status of every port error is decided here and nowhere else, in one `match` per port.

use std::fmt::Display;

use actix_web::http::{StatusCode, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Resource, Route};
use contracts::catalog::CatalogError;
use contracts::orders::OrdersError;
use contracts::users::UsersError;
use contracts::{FieldError, Unavailable};
use platform::problem::Problem;
use serde::Serialize;

/// What every handler returns.
pub(crate) type Answer = Result<HttpResponse, Problem>;

/// Seconds after which a client may ask again when a context could not be asked: a change of owner takes less.
const RETRY_AFTER_S: u32 = 1;

/// 200 with a document.
pub(crate) fn ok(document: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().json(document)
}

/// 201 with a document and where it can be read from now on.
pub(crate) fn created(collection: &str, id: impl Display, document: &impl Serialize) -> HttpResponse {
    HttpResponse::Created().insert_header((header::LOCATION, format!("{collection}/{id}"))).json(document)
}

/// 422 that names every field at fault.
pub(crate) fn unprocessable(faults: Vec<FieldError>) -> Problem {
    let problem =
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY).detail("the request breaks rules of its fields");
    faults.into_iter().fold(problem, |problem, fault| problem.field(fault.field, fault.message))
}

/// 400 that names the part of the URL at fault.
pub(crate) fn bad_parameter(field: &str, message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST).detail("the address of the request is wrong").field(field, message)
}

pub(crate) fn users_problem(error: UsersError) -> Problem {
    match error {
        UsersError::NotFound { .. } => Problem::new(StatusCode::NOT_FOUND).detail(error.to_string()),
        UsersError::EmailTaken { .. } => Problem::new(StatusCode::CONFLICT)
            .detail(error.to_string())
            .field("email", "is taken by another user"),
        UsersError::NotOwner => Problem::new(StatusCode::SERVICE_UNAVAILABLE)
            .detail("users are written on the other side now, or are about to be; nothing was changed; send the request through the facade")
            .retry_after(RETRY_AFTER_S),
        UsersError::Unavailable(cause) => unavailable(&cause),
    }
}

pub(crate) fn catalog_problem(error: CatalogError) -> Problem {
    match error {
        CatalogError::NotFound { .. } => Problem::new(StatusCode::NOT_FOUND).detail(error.to_string()),
        CatalogError::SkuTaken { .. } => Problem::new(StatusCode::CONFLICT)
            .detail(error.to_string())
            .field("sku", "is taken by another product"),
        CatalogError::Unavailable(cause) => unavailable(&cause),
    }
}

pub(crate) fn orders_problem(error: OrdersError) -> Problem {
    match &error {
        OrdersError::NotFound { .. } => Problem::new(StatusCode::NOT_FOUND).detail(error.to_string()),
        OrdersError::NoSuchUser { .. } => unprocessable(vec![FieldError::new("user_id", error.to_string())]),
        OrdersError::NoSuchProduct { line, .. } => {
            unprocessable(vec![FieldError::new(format!("lines[{line}].product_id"), error.to_string())])
        }
        OrdersError::NoTotal { .. } => unprocessable(vec![FieldError::new("lines", error.to_string())]),
        OrdersError::Unavailable(cause) => unavailable(cause),
    }
}

/// The cause is for our log; the client learns what it can act on.
fn unavailable(cause: &Unavailable) -> Problem {
    tracing::warn!(context = cause.context, maybe_done = cause.maybe_done, "{cause}");
    let detail = match cause.maybe_done {
        true => "the request may have been carried out; look before trying again",
        false => "nothing was changed; try again",
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE).detail(detail).retry_after(RETRY_AFTER_S)
}

/// Adds a resource that answers other methods than its own with 405 and the list of its own.
pub(crate) fn resource(
    config: &mut ServiceConfig,
    path: &str,
    allow: &'static str,
    routes: impl IntoIterator<Item = Route>,
    with: impl FnOnce(Resource) -> Resource,
) {
    let refuse = move || async move {
        let detail = format!("this resource knows {allow}");
        Answer::Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED).detail(detail).allow(allow))
    };
    let resource = routes.into_iter().fold(web::resource(path), Resource::route);
    config.service(with(resource).default_service(web::to(refuse)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_of_unavailability_stays_inside() {
        let cause =
            Unavailable { context: "users".into(), reason: "10.0.0.7 refused".into(), maybe_done: false };
        let problem = users_problem(UsersError::Unavailable(cause));
        assert_eq!((problem.status, problem.retry_after_s), (503, Some(1)));
        assert!(!problem.to_json().contains("10.0.0.7"), "{}", problem.to_json());
    }

    #[test]
    fn a_missing_product_is_named_by_its_line() {
        let id = contracts::ProductId::try_from(9).unwrap();
        let problem = orders_problem(OrdersError::NoSuchProduct { id, line: 3 });
        assert_eq!(problem.status, 422);
        assert_eq!(problem.errors[0].field, "lines[3].product_id");
    }
}
