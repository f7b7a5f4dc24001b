//! `/api/v1/orders`, written against the port [`Orders`].
//!
//! Invariant: orders are listed by user only; a cancellation repeated is answered like the first.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::web::{self, Data, ServiceConfig};
use contracts::orders::{Order, Orders, PlaceOrder};
use contracts::{OrderId, ProductId, UserId};
use platform::problem::Problem;
use serde::Deserialize;

use crate::answer::{self, Answer, bad_parameter, orders_problem, unprocessable};
use crate::body::Body;
use crate::object::Object;
use crate::query::{Listing, Parameters};
use crate::request::{PathId, call};

const COLLECTION: &str = "/api/v1/orders";
const KIND: &str = "orders";

/// Adds the routes of the orders context.
pub fn configure(config: &mut ServiceConfig, orders: Arc<dyn Orders>) {
    let orders = Data::from(orders);
    let collection = [web::get().to(list), web::head().to(list), web::post().to(place)];
    answer::resource(config, COLLECTION, "GET, HEAD, POST", collection, |resource| {
        resource.app_data(orders.clone())
    });
    let item = [web::get().to(read), web::head().to(read)];
    answer::resource(config, &format!("{COLLECTION}/{{id}}"), "GET, HEAD", item, |resource| {
        resource.app_data(orders.clone())
    });
    let cancellation = [web::post().to(cancel)];
    answer::resource(config, &format!("{COLLECTION}/{{id}}/cancel"), "POST", cancellation, |resource| {
        resource.app_data(orders)
    });
}

/// What a client sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderBody {
    user_id: UserId,
    lines: Vec<Object<LineBody>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LineBody {
    product_id: ProductId,
    quantity: u32,
}

impl OrderBody {
    fn parse(self) -> Result<PlaceOrder, Problem> {
        let lines = self.lines.iter().map(|Object(line)| (line.product_id, line.quantity)).collect();
        PlaceOrder::parse(self.user_id, lines).map_err(unprocessable)
    }
}

async fn place(request: HttpRequest, orders: Data<dyn Orders>, Body(body): Body<OrderBody>) -> Answer {
    let order = orders.place(&call(&request), body.parse()?).await.map_err(orders_problem)?;
    Ok(answer::created(COLLECTION, order.id, &order))
}

async fn read(request: HttpRequest, orders: Data<dyn Orders>, PathId(id): PathId<OrderId>) -> Answer {
    let order = orders.get(&call(&request), id).await.map_err(orders_problem)?;
    Ok(answer::ok(&order))
}

async fn cancel(request: HttpRequest, orders: Data<dyn Orders>, PathId(id): PathId<OrderId>) -> Answer {
    let order = orders.cancel(&call(&request), id).await.map_err(orders_problem)?;
    Ok(answer::ok(&order))
}

async fn list(request: HttpRequest, orders: Data<dyn Orders>) -> Answer {
    let parameters = Parameters::parse(&request, &["user_id", "limit", "cursor"])?;
    let window = parameters.window(KIND)?;
    let user_id: UserId = parameters
        .get("user_id")
        .ok_or_else(|| bad_parameter("user_id", "is missing; orders are listed by user"))?
        .parse()
        .map_err(|error| bad_parameter("user_id", format!("{error}")))?;
    let after = window.after.and_then(|after| OrderId::try_from(after).ok());
    let page = orders.list(&call(&request), user_id, after, window.limit).await.map_err(orders_problem)?;
    Ok(answer::ok(&Listing::new(KIND, page, |order: &Order| order.id.get(), |order| order)))
}
