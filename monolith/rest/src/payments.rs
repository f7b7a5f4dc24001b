//! Payments of orders, written against the port [`Payments`].
//!
//! Invariant: payments are shown, not made: checkouts make them.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::web::{Data, ServiceConfig};
use contracts::OrderId;
use contracts::payments::{Payment, Payments};

use crate::answer::{self, Answer, payments_problem};
use crate::document::Document;
use crate::operation::{self, Operation, get};
use crate::request::{PathId, call};

/// Adds the routes of the payments context.
pub fn configure(config: &mut ServiceConfig, payments: Arc<dyn Payments>) {
    operation::serve(config, &Data::from(payments), &operations());
}

/// Adds the operations of the payments context to the document.
pub fn describe(document: &mut Document) {
    document.add("payments", &operations());
}

fn operations() -> [Operation; 1] {
    let read_payment = get("/api/v1/orders/{id}/payment", "read_payment", "Shows the payment of an order.");
    [read_payment.part::<OrderId>("id", "The order's id.").returns::<Payment>().to(read)]
}

async fn read(request: HttpRequest, payments: Data<dyn Payments>, PathId(id): PathId<OrderId>) -> Answer {
    let payment = payments.payment(&call(&request), id).await.map_err(payments_problem)?;
    Ok(answer::ok(&payment))
}
