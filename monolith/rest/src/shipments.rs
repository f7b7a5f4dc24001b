//! Shipments of orders, written against the port [`Shipping`].
//!
//! Invariant: only what a carrier says moves a shipment on; it is scheduled and stopped with its order.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::web::{Data, ServiceConfig};
use contracts::OrderId;
use contracts::shipping::{Shipment, ShipmentStatus, Shipping};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::answer::{self, Answer, shipping_problem};
use crate::command::Command;
use crate::document::Document;
use crate::operation::{self, Draft, Operation, get, post};
use crate::request::{PathId, call};

const SHIPMENT: &str = "/api/v1/orders/{id}/shipment";
const STEPS: &str = "/api/v1/orders/{id}/shipment/steps";

/// Adds the routes of the shipping context.
pub fn configure(config: &mut ServiceConfig, shipping: Arc<dyn Shipping>) {
    operation::serve(config, &Data::from(shipping), &operations());
}

/// Adds the operations of the shipping context to the document.
pub fn describe(document: &mut Document) {
    document.add("shipping", &operations());
}

fn operations() -> [Operation; 2] {
    let order = |draft: Draft| draft.part::<OrderId>("id", "The order's id.");
    [
        order(get(SHIPMENT, "read_shipment", "Shows the shipment of an order."))
            .returns::<Shipment>()
            .to(read),
        order(post(STEPS, "advance_shipment", "Notes that the carrier has it, or that the buyer has."))
            .body::<StepBody>()
            .returns::<Shipment>()
            .refuses([409])
            .to(advance),
    ]
}

/// What the carrier says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StepBody {
    status: CarrierStep,
}

/// What a carrier can say.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum CarrierStep {
    HandedOver,
    Delivered,
}

impl From<CarrierStep> for ShipmentStatus {
    fn from(step: CarrierStep) -> Self {
        match step {
            CarrierStep::HandedOver => Self::HandedOver,
            CarrierStep::Delivered => Self::Delivered,
        }
    }
}

async fn read(request: HttpRequest, shipping: Data<dyn Shipping>, PathId(id): PathId<OrderId>) -> Answer {
    let shipment = shipping.track(&call(&request), id).await.map_err(shipping_problem)?;
    Ok(answer::ok(&shipment))
}

async fn advance(
    shipping: Data<dyn Shipping>,
    PathId(id): PathId<OrderId>,
    command: Command<StepBody>,
) -> Answer {
    let to = command.body.status.into();
    let shipment = shipping.advance(&command.ctx, id, to).await.map_err(shipping_problem)?;
    Ok(answer::ok(&shipment))
}
