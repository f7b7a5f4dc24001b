//! `/api/v1/orders`, written against the port [`Orders`].
//!
//! Invariant: orders are listed by user only; a cancellation repeated is answered like the first.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::web::{Data, ServiceConfig};
use contracts::orders::{HistoryEntry, Order, OrderStatus, Orders, PlaceOrder};
use contracts::users::Address;
use contracts::{OrderId, ProductId, Timestamp, UserId};
use platform::problem::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answer::{self, Answer, bad_parameter, orders_problem, unprocessable};
use crate::command::{BareCommand, Command};
use crate::document::Document;
use crate::object::Object;
use crate::operation::{self, Draft, Operation, get, post};
use crate::query::{Listing, Parameters};
use crate::request::{PathId, call, part};

/// Where orders are.
pub(crate) const COLLECTION: &str = "/api/v1/orders";
const ITEM: &str = "/api/v1/orders/{id}";
const HISTORY: &str = "/api/v1/orders/{id}/history";
const CANCEL: &str = "/api/v1/orders/{id}/cancel";
const KIND: &str = "orders";

/// Adds the routes of the orders context.
pub fn configure(config: &mut ServiceConfig, orders: Arc<dyn Orders>) {
    operation::serve(config, &Data::from(orders), &operations());
}

/// Adds the operations of the orders context to the document.
pub fn describe(document: &mut Document) {
    document.add("orders", &operations());
}

fn operations() -> [Operation; 5] {
    let item = |draft: Draft| draft.part::<OrderId>("id", "The order's id.");
    [
        get(COLLECTION, "list_orders", "Lists a user's orders by id.")
            .required_query::<UserId>("user_id", "Whose orders.")
            .pages::<Order>()
            .to(list),
        post(
            COLLECTION,
            "place_order",
            "Places an order. It is pending until stock and payment are seen to.",
        )
        .body::<OrderBody>()
        .creates::<Order>()
        .to(place),
        item(get(ITEM, "read_order", "Shows an order.")).returns::<Order>().to(read),
        item(get(HISTORY, "list_order_history", "Lists what happened to an order, the oldest first."))
            .pages::<HistoryView>()
            .to(history),
        item(post(
            CANCEL,
            "cancel_order",
            "Calls an order off. Goods, money and shipment are undone by and by.",
        ))
        .returns::<Order>()
        .refuses([409])
        .to(cancel),
    ]
}

/// What a client sends.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OrderBody {
    /// Who orders.
    user_id: UserId,
    /// What, and how much of it.
    #[schemars(length(min = 1, max = 500))]
    lines: Vec<Object<LineBody>>,
    /// `account` (also where this is left out), or a token of the payment provider.
    #[schemars(length(min = 1, max = 100), regex(pattern = "^[!-~]+$"))]
    payment_method: Option<String>,
    /// Where it goes; the user's first address where this is left out.
    ship_to: Option<Object<Address>>,
}

/// One product of an order.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LineBody {
    product_id: ProductId,
    /// Units.
    #[schemars(range(min = 1, max = 1_000_000))]
    quantity: u32,
}

impl OrderBody {
    fn parse(self) -> Result<PlaceOrder, Problem> {
        let lines = self.lines.iter().map(|Object(line)| (line.product_id, line.quantity)).collect();
        let ship_to = self.ship_to.map(|Object(address)| address);
        PlaceOrder::parse(self.user_id, lines, self.payment_method, ship_to).map_err(unprocessable)
    }
}

/// One step in the life of an order.
#[derive(Debug, Serialize, JsonSchema)]
struct HistoryView {
    status: OrderStatus,
    at: Timestamp,
    /// Why, where there is more to say than the status says.
    note: Option<String>,
}

async fn place(orders: Data<dyn Orders>, command: Command<OrderBody>) -> Answer {
    let order = orders.place(&command.ctx, command.body.parse()?).await.map_err(orders_problem)?;
    Ok(answer::created(COLLECTION, order.id, &order))
}

async fn read(request: HttpRequest, orders: Data<dyn Orders>, PathId(id): PathId<OrderId>) -> Answer {
    let order = orders.get(&call(&request), id).await.map_err(orders_problem)?;
    Ok(answer::ok(&order))
}

async fn cancel(orders: Data<dyn Orders>, PathId(id): PathId<OrderId>, command: BareCommand) -> Answer {
    let order = orders.cancel(&command.ctx, id).await.map_err(orders_problem)?;
    Ok(answer::ok(&order))
}

async fn list(request: HttpRequest, orders: Data<dyn Orders>) -> Answer {
    let parameters = Parameters::parse(&request, &["user_id", "limit", "cursor"])?;
    let window = parameters.window(KIND)?;
    let user_id: Option<UserId> = parameters.parsed("user_id")?;
    let user_id = user_id.ok_or_else(|| bad_parameter("user_id", "is missing; orders are listed by user"))?;
    let after = window.after.and_then(|after| OrderId::try_from(after).ok());
    let page = orders.list(&call(&request), user_id, after, window.limit).await.map_err(orders_problem)?;
    Ok(answer::ok(&Listing::new(KIND, page, |order: &Order| order.id.get(), |order| order)))
}

async fn history(request: HttpRequest, orders: Data<dyn Orders>) -> Answer {
    let window = Parameters::parse(&request, &["limit", "cursor"])?.window("history")?;
    let id: OrderId = part(&request, "id")?;
    let page =
        orders.history(&call(&request), id, window.after, window.limit).await.map_err(orders_problem)?;
    let view = |entry: HistoryEntry| HistoryView { status: entry.status, at: entry.at, note: entry.note };
    Ok(answer::ok(&Listing::new("history", page, |entry: &HistoryEntry| entry.position, view)))
}
