//! `/api/v1/carts`, written against the ports [`Carts`] and, for the checkout, [`Orders`].
//!
//! Invariant: whoever knows a cart's id may change it, so ids are shown to nobody but who opened it.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::web::{Data, ServiceConfig};
use contracts::cart::{Cart, CartItem, CartStatus, Carts, PutItem};
use contracts::orders::{CheckOut, Order, Orders};
use contracts::users::Address;
use contracts::{CartId, Money, OrderId, ProductId, Timestamp, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answer::{self, Answer, cart_problem, orders_problem, unprocessable};
use crate::body::Body;
use crate::command::Command;
use crate::document::Document;
use crate::object::Object;
use crate::operation::{self, Draft, Operation, delete, get, post, put};
use crate::orders;
use crate::precondition::{expected, tagged};
use crate::request::{PathId, call, part};

const COLLECTION: &str = "/api/v1/carts";
const CART: &str = "/api/v1/carts/{id}";
const ITEMS: &str = "/api/v1/carts/{id}/items";
const ITEM: &str = "/api/v1/carts/{id}/items/{product_id}";
const ASSIGN: &str = "/api/v1/carts/{id}/assign";
const CHECKOUT: &str = "/api/v1/carts/{id}/checkout";

/// Adds the routes of the cart context, and the checkout of the orders context.
pub fn configure(config: &mut ServiceConfig, carts: Arc<dyn Carts>, orders: Arc<dyn Orders>) {
    operation::serve(config, &Data::from(carts), &operations());
    operation::serve(config, &Data::from(orders), &[checkout()]);
}

/// Adds the operations on carts to the document.
pub fn describe(document: &mut Document) {
    document.add("carts", &operations());
    document.add("carts", &[checkout()]);
}

fn cart(draft: Draft) -> Draft {
    draft.part::<CartId>("id", "The cart's id.")
}

fn operations() -> [Operation; 6] {
    let item = |draft: Draft| cart(draft).part::<ProductId>("product_id", "The product's id.");
    [
        post(COLLECTION, "open_cart", "Begins a cart, or returns the one that the user has.")
            .body::<OpenBody>()
            .creates::<CartView>()
            .tagged()
            .to(open),
        cart(get(CART, "read_cart", "Shows a cart.")).returns::<CartView>().tagged().to(read),
        cart(post(ITEMS, "add_to_cart", "Adds units of a product to those in the cart."))
            .body::<AddBody>()
            .returns::<CartView>()
            .tagged()
            .guarded()
            .refuses([409])
            .to(add),
        item(put(ITEM, "set_in_cart", "Sets the units of a product."))
            .body::<SetBody>()
            .returns::<CartView>()
            .tagged()
            .guarded()
            .refuses([409])
            .to(set),
        item(delete(ITEM, "take_from_cart", "Takes a product out."))
            .returns::<CartView>()
            .tagged()
            .guarded()
            .refuses([409])
            .to(take_out),
        cart(post(
            ASSIGN,
            "assign_cart",
            "Says whose cart it is; where the user has one, the items go there.",
        ))
        .body::<AssignBody>()
        .returns::<CartView>()
        .tagged()
        .refuses([409])
        .to(assign),
    ]
}

fn checkout() -> Operation {
    cart(post(CHECKOUT, "check_out_cart", "Makes an order of the cart, at the prices of this moment."))
        .body::<CheckOutBody>()
        .creates::<Order>()
        .refuses([409])
        .to(check_out)
}

/// Whose cart to begin.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OpenBody {
    /// Nobody's where this is left out.
    user_id: Option<UserId>,
}

/// Units to add.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AddBody {
    product_id: ProductId,
    #[schemars(range(min = 1, max = 1_000_000))]
    quantity: u32,
}

/// Units to have.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetBody {
    #[schemars(range(min = 1, max = 1_000_000))]
    quantity: u32,
}

/// Whose cart it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AssignBody {
    user_id: UserId,
}

/// How to pay and where to send it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CheckOutBody {
    /// `account` (also where this is left out), or a token of the payment provider.
    #[schemars(length(min = 1, max = 100), regex(pattern = "^[!-~]+$"))]
    payment_method: Option<String>,
    /// Where it goes; the user's first address where this is left out.
    ship_to: Option<Object<Address>>,
    /// The total that the buyer has seen; another one is refused.
    expected_total: Option<Object<Money>>,
}

/// What a client sees.
#[derive(Debug, Serialize, JsonSchema)]
struct CartView {
    id: CartId,
    user_id: Option<UserId>,
    status: CartStatus,
    order_id: Option<OrderId>,
    items: Vec<CartItem>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Cart> for CartView {
    fn from(cart: Cart) -> Self {
        let Cart { id, user_id, status, order_id, items, created_at, updated_at, version: _ } = cart;
        Self { id, user_id, status, order_id, items, created_at, updated_at }
    }
}

async fn open(carts: Data<dyn Carts>, command: Command<OpenBody>) -> Answer {
    let cart = carts.open(&command.ctx, command.body.user_id).await.map_err(cart_problem)?;
    Ok(answer::created_tagged(COLLECTION, cart.id.clone(), cart.version, &CartView::from(cart)))
}

async fn read(request: HttpRequest, carts: Data<dyn Carts>, PathId(id): PathId<CartId>) -> Answer {
    let cart = carts.get(&call(&request), id).await.map_err(cart_problem)?;
    shown(&request, cart)
}

async fn add(
    request: HttpRequest,
    carts: Data<dyn Carts>,
    PathId(id): PathId<CartId>,
    command: Command<AddBody>,
) -> Answer {
    let AddBody { product_id, quantity } = command.body;
    let item = PutItem::parse(product_id, quantity).map_err(unprocessable)?;
    let cart = carts.add(&command.ctx, id, item, expected(&request)?).await.map_err(cart_problem)?;
    shown(&request, cart)
}

async fn set(
    request: HttpRequest,
    carts: Data<dyn Carts>,
    PathId(id): PathId<CartId>,
    Body(body): Body<SetBody>,
) -> Answer {
    let item = PutItem::parse(part(&request, "product_id")?, body.quantity).map_err(unprocessable)?;
    let cart = carts.set(&call(&request), id, item, expected(&request)?).await.map_err(cart_problem)?;
    shown(&request, cart)
}

async fn take_out(request: HttpRequest, carts: Data<dyn Carts>, PathId(id): PathId<CartId>) -> Answer {
    let product_id: ProductId = part(&request, "product_id")?;
    let expected = expected(&request)?;
    let cart = carts.take_out(&call(&request), id, product_id, expected).await.map_err(cart_problem)?;
    shown(&request, cart)
}

async fn assign(
    request: HttpRequest,
    carts: Data<dyn Carts>,
    PathId(id): PathId<CartId>,
    command: Command<AssignBody>,
) -> Answer {
    let cart = carts.assign(&command.ctx, id, command.body.user_id).await.map_err(cart_problem)?;
    shown(&request, cart)
}

async fn check_out(
    orders: Data<dyn Orders>,
    PathId(id): PathId<CartId>,
    command: Command<CheckOutBody>,
) -> Answer {
    let CheckOutBody { payment_method, ship_to, expected_total } = command.body;
    let (ship_to, total) =
        (ship_to.map(|Object(address)| address), expected_total.map(|Object(total)| total));
    let wish = CheckOut::parse(id, payment_method, ship_to, total).map_err(unprocessable)?;
    let order = orders.check_out(&command.ctx, wish).await.map_err(orders_problem)?;
    Ok(answer::created(orders::COLLECTION, order.id, &order))
}

fn shown(request: &HttpRequest, cart: Cart) -> Answer {
    tagged(request, cart.version, &CartView::from(cart))
}
