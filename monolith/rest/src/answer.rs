//! How handlers answer: documents with their status, and errors of the ports as problem documents.
//!
//! Invariant: the status of every port error is decided here and nowhere else, in one `match` per port.

use std::borrow::Cow;
use std::fmt::Display;
use std::future::ready;

use actix_web::http::{StatusCode, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Resource, Route, guard};
use contracts::cart::CartError;
use contracts::catalog::CatalogError;
use contracts::inventory::InventoryError;
use contracts::orders::OrdersError;
use contracts::payments::PaymentsError;
use contracts::shipping::ShippingError;
use contracts::users::UsersError;
use contracts::{FieldError, KeyReused, Unavailable};
use percent_encoding::percent_decode_str;
use platform::problem::Problem;
use serde::Serialize;

use crate::precondition::{changed, tag};

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

/// [`created`] with the entity tag of the document.
pub(crate) fn created_tagged(
    collection: &str,
    id: impl Display,
    version: i64,
    document: &impl Serialize,
) -> HttpResponse {
    HttpResponse::Created()
        .insert_header((header::LOCATION, format!("{collection}/{id}")))
        .insert_header((header::ETAG, tag(version)))
        .json(document)
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

/// 400 that names the header at fault.
pub(crate) fn bad_header(name: &str, message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST).detail("a header of the request is wrong").field(name, message)
}

pub(crate) fn users_problem(error: UsersError) -> Problem {
    let text = error.to_string();
    match error {
        UsersError::NotFound { .. } => missing(text),
        UsersError::EmailTaken { .. } => conflict(text).field("email", "is taken by another user"),
        UsersError::Changed { .. } => changed(text),
        UsersError::KeyReused(error) => key_reused(&error),
        UsersError::NotOwner => Problem::new(StatusCode::SERVICE_UNAVAILABLE)
            .detail("users are written on the other side now, or are about to be; nothing was changed; send the request through the facade")
            .retry_after(RETRY_AFTER_S),
        UsersError::Unavailable(cause) => unavailable(&cause),
    }
}

pub(crate) fn catalog_problem(error: CatalogError) -> Problem {
    let text = error.to_string();
    match error {
        CatalogError::NotFound { .. } => missing(text),
        CatalogError::SkuTaken { .. } => conflict(text).field("sku", "is taken by another product"),
        CatalogError::Changed { .. } | CatalogError::CategoryChanged { .. } => changed(text),
        CatalogError::NoSuchCategory { .. } => unprocessable(vec![FieldError::new("category_id", text)]),
        CatalogError::NameTaken { .. } => conflict(text).field("name", "is taken by another category"),
        CatalogError::CategoryCycle { .. } => unprocessable(vec![FieldError::new("parent_id", text)]),
        CatalogError::CategoryInUse { .. } => conflict(format!("{text}; move what is in it first")),
        CatalogError::KeyReused(error) => key_reused(&error),
        CatalogError::Unavailable(cause) => unavailable(&cause),
    }
}

pub(crate) fn cart_problem(error: CartError) -> Problem {
    let text = error.to_string();
    match error {
        CartError::NotFound { .. } => missing(text),
        CartError::Closed { .. } | CartError::OtherUser { .. } => conflict(text),
        CartError::Changed { .. } => changed(text),
        CartError::NoSuchProduct { .. } => unprocessable(vec![FieldError::new("product_id", text)]),
        CartError::NoSuchUser { .. } => unprocessable(vec![FieldError::new("user_id", text)]),
        CartError::TooFull => unprocessable(vec![FieldError::new("quantity", text)]),
        CartError::KeyReused(error) => key_reused(&error),
        CartError::Unavailable(cause) => unavailable(&cause),
    }
}

pub(crate) fn inventory_problem(error: InventoryError) -> Problem {
    let text = error.to_string();
    match error {
        InventoryError::NoReservation { .. } => missing(text),
        InventoryError::NoSuchWarehouse { .. } => unprocessable(vec![FieldError::new("warehouse_id", text)]),
        InventoryError::CodeTaken { .. } => conflict(text).field("code", "is taken by another warehouse"),
        InventoryError::Impossible { .. } => {
            conflict(text).field("delta", "leaves an impossible number of units")
        }
        InventoryError::OutOfStock { .. } | InventoryError::Released { .. } => conflict(text),
        InventoryError::KeyReused(error) => key_reused(&error),
        InventoryError::Unavailable(cause) => unavailable(&cause),
    }
}

pub(crate) fn payments_problem(error: PaymentsError) -> Problem {
    let text = error.to_string();
    match error {
        PaymentsError::NotFound { .. } => missing(text),
        PaymentsError::Declined { .. } | PaymentsError::Refunded { .. } | PaymentsError::Refused { .. } => {
            conflict(text)
        }
        PaymentsError::NoProvider => unprocessable(vec![FieldError::new("payment_method", text)]),
        PaymentsError::KeyReused(error) => key_reused(&error),
        PaymentsError::Unavailable(cause) => unavailable(&cause),
    }
}

pub(crate) fn shipping_problem(error: ShippingError) -> Problem {
    let text = error.to_string();
    match error {
        ShippingError::NotFound { .. } => missing(text),
        ShippingError::Stopped { .. } => conflict(text),
        ShippingError::WrongStep { .. } => {
            conflict(text).field("status", "cannot follow where the shipment stands")
        }
        ShippingError::KeyReused(error) => key_reused(&error),
        ShippingError::Unavailable(cause) => unavailable(&cause),
    }
}

pub(crate) fn orders_problem(error: OrdersError) -> Problem {
    let text = error.to_string();
    match error {
        OrdersError::NotFound { .. } => missing(text),
        OrdersError::NoSuchUser { .. } => unprocessable(vec![FieldError::new("user_id", text)]),
        OrdersError::NoSuchProduct { line, .. } => {
            unprocessable(vec![FieldError::new(format!("lines[{line}].product_id"), text)])
        }
        OrdersError::NoTotal { .. } => unprocessable(vec![FieldError::new("lines", text)]),
        OrdersError::NoPaymentProvider => unprocessable(vec![FieldError::new("payment_method", text)]),
        OrdersError::Cart(error) => cart_problem(error),
        OrdersError::CartOfNobody { .. }
        | OrdersError::EmptyCart { .. }
        | OrdersError::NotCancellable { .. } => conflict(text),
        OrdersError::OtherTotal { .. } => conflict(text).field("expected_total", "is not the total now"),
        OrdersError::KeyReused(error) => key_reused(&error),
        OrdersError::Unavailable(cause) => unavailable(&cause),
    }
}

pub(crate) fn missing(detail: String) -> Problem {
    Problem::new(StatusCode::NOT_FOUND).detail(detail)
}

fn conflict(detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT).detail(detail)
}

fn key_reused(error: &KeyReused) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
        .detail(format!("{error}; send a new key with a new request"))
        .field("Idempotency-Key", "belongs to another request")
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
///
/// The router tries resources one after the other, and one with a part in braces by a regular expression. So such a resource
/// stands behind a guard that compares the rest of its path, or a request would pay for every resource before its own.
pub(crate) fn resource(
    config: &mut ServiceConfig,
    path: &str,
    allow: String,
    routes: impl IntoIterator<Item = Route>,
    with: impl FnOnce(Resource) -> Resource,
) {
    let refuse = move || {
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED);
        ready(Answer::Err(problem.detail(format!("this resource knows {allow}")).allow(allow.clone())))
    };
    let resource = routes.into_iter().fold(web::resource(path), Resource::route);
    let resource = with(resource).default_service(web::to(refuse));
    if !path.contains('{') {
        config.service(resource);
        return;
    }
    let pattern = path.to_owned();
    let fits = guard::fn_guard(move |ctx| fits(&pattern, ctx.head().uri.path()));
    config.service(web::scope("").guard(fits).service(resource));
}

/// Whether a path has as many parts as a pattern, and the same ones where the pattern has no braces.
fn fits(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    let same = |wanted: &str| {
        parts.next().is_some_and(|part| {
            wanted.starts_with('{') || part == wanted || (part.contains('%') && decoded(part) == wanted)
        })
    };
    pattern.split('/').all(same) && parts.next().is_none()
}

/// A part of a path without percent-encoding: `%75sers` is `users`.
fn decoded(part: &str) -> Cow<'_, str> {
    percent_decode_str(part).decode_utf8_lossy()
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
    fn a_path_fits_a_pattern_by_its_parts_without_braces() {
        let pattern = "/api/v1/orders/{id}/payment";
        assert!(fits(pattern, "/api/v1/orders/7/payment") && fits(pattern, "/api/v1/orders/x%20y/payment"));
        for path in ["/api/v1/orders/7", "/api/v1/orders/7/payment/", "/api/v1/carts/7/payment", "/"] {
            assert!(!fits(pattern, path), "{path}");
        }
    }

    #[test]
    fn a_path_fits_its_pattern_part_by_part() {
        let pattern = "/api/v1/users/{id}";
        for path in ["/api/v1/users/7", "/api/v1/%75sers/7", "/api/v1/users/%37"] {
            assert!(fits(pattern, path), "{path}");
        }
        for path in ["/api/v1/users", "/api/v1/users/7/x", "/api/v1/products/7", "/api/v1/%76sers/7"] {
            assert!(!fits(pattern, path), "{path}");
        }
    }

    #[test]
    fn a_missing_product_is_named_by_its_line() {
        let id = contracts::ProductId::try_from(9).unwrap();
        let problem = orders_problem(OrdersError::NoSuchProduct { id, line: 3 });
        assert_eq!(problem.status, 422);
        assert_eq!(problem.errors[0].field, "lines[3].product_id");
    }
}
