//! The orders context: what a user bought, at which price, and what was taken back.
//!
//! Invariant: an order moves `pending → confirmed → cancelling → cancelled | cancel_failed`, or `pending → rejected | cancelled`,
//! and never back. What was promised for a rejected or cancelled order elsewhere (stock, money, a shipment) is given back.

use serde::{Deserialize, Serialize};

use crate::cart::CartError;
use crate::events::DomainEvent;
use crate::payments::PaymentMethod;
use crate::port::PortError;
use crate::users::Address;
use crate::{
    CallContext, CartId, FieldError, KeyReused, Money, OrderId, Page, ProductId, Timestamp, Unavailable,
    UserId, port,
};

/// The context's name, as flags, routes and mappings know it.
pub const CONTEXT: &str = "orders";

/// Most lines of one order placed through the API.
pub const LINES_MAX: usize = 500;

/// An order as the context holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Order {
    /// Assigned by the context.
    pub id: OrderId,
    /// Who ordered. The user may have been removed since.
    pub user_id: UserId,
    /// Number of the document that an imported order came from, such as an invoice; unique where present.
    pub reference: Option<String>,
    /// A sale, or goods taken back.
    pub kind: OrderKind,
    /// Where the order stands.
    pub status: OrderStatus,
    /// What was ordered; at least one line.
    pub lines: Vec<OrderLine>,
    /// Sum over the lines.
    pub total: Money,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// When it was confirmed.
    pub confirmed_at: Option<Timestamp>,
    /// When it was called off: by its user, or since it could not be kept after it was confirmed.
    pub cancelled_at: Option<Timestamp>,
    /// Why it was rejected, for its user.
    pub rejected_because: Option<String>,
    /// `account` or `card`; nothing for an imported order.
    pub payment_method: Option<String>,
    /// Where it goes; nothing where the buyer collects the goods.
    pub ship_to: Option<Address>,
    /// The cart that it was.
    pub cart_id: Option<CartId>,
    /// How far the parts of a cancellation have come; nothing while it was not called off.
    pub cancellation: Option<Cancellation>,
}

/// How far the parts of a cancellation have come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cancellation {
    /// Giving the goods back to the stock.
    pub stock: CancellationPart,
    /// Giving the money back.
    pub payment: CancellationPart,
    /// Stopping the shipment.
    pub shipment: CancellationPart,
}

/// How far one part of a cancellation has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum CancellationPart {
    /// Its context has not answered yet.
    Waiting,
    /// Done.
    Done,
    /// It could not be done.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A sale, or goods taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OrderKind {
    /// The user buys.
    Sale,
    /// A credit note: the quantities are units taken back, the total is what the user gets.
    Cancellation,
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Taken down; stock and payment are being seen to.
    Pending,
    /// Goods and money are promised: it will be delivered. Imported orders are confirmed.
    Confirmed,
    /// It could not be fulfilled; nothing is owed. Final.
    Rejected,
    /// Called off; stock, payment and shipment are being undone.
    Cancelling,
    /// Called off, and everything undone. Final.
    Cancelled,
    /// Called off, but something could not be undone: somebody must look at it.
    CancelFailed,
}

/// One step in the life of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Its place in the history, from 1.
    pub position: i64,
    /// Where the order stood from then on.
    pub status: OrderStatus,
    /// When.
    pub at: Timestamp,
    /// Why, where there is more to say than the status says.
    pub note: Option<String>,
}

/// One product of an order, at the price of that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OrderLine {
    /// The product; it may have been removed since.
    pub product_id: ProductId,
    /// Units, at least one.
    pub quantity: u32,
    /// Price of one unit when ordered.
    pub unit_price: Money,
}

/// A wish to buy, checked: see [`PlaceOrder::parse`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceOrder {
    /// Who orders.
    pub user_id: UserId,
    /// Products and how many of each.
    pub lines: Vec<(ProductId, u32)>,
    /// How it is paid.
    pub payment_method: PaymentMethod,
    /// Where it goes; nothing means the user's first address, or that the buyer collects where the user has none.
    pub ship_to: Option<Address>,
}

impl PlaceOrder {
    /// Checks what a client wrote. All faults are reported, each with its field.
    pub fn parse(
        user_id: UserId,
        lines: Vec<(ProductId, u32)>,
        payment_method: Option<String>,
        ship_to: Option<Address>,
    ) -> Result<Self, Vec<FieldError>> {
        let mut faults = Vec::new();
        if lines.is_empty() || lines.len() > LINES_MAX {
            faults.push(FieldError::new("lines", format!("must hold 1 to {LINES_MAX} lines")));
        }
        for (index, (_, quantity)) in lines.iter().enumerate() {
            if !(1..=1_000_000).contains(quantity) {
                faults.push(FieldError::new(format!("lines[{index}].quantity"), "must be from 1 to 1000000"));
            }
        }
        let payment_method = payment(payment_method, &mut faults);
        if let Some(address) = &ship_to {
            address.check("ship_to", &mut faults);
        }
        if faults.is_empty() { Ok(Self { user_id, lines, payment_method, ship_to }) } else { Err(faults) }
    }
}

/// A wish to buy what is in a cart, checked: see [`CheckOut::parse`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckOut {
    /// Which cart. It must belong to a user.
    pub cart_id: CartId,
    /// How it is paid.
    pub payment_method: PaymentMethod,
    /// Where it goes; nothing means the user's first address, or that the buyer collects where the user has none.
    pub ship_to: Option<Address>,
    /// The total that the buyer has seen; another one is refused. Nothing takes whatever the total is now.
    pub expected_total: Option<Money>,
}

impl CheckOut {
    /// Checks what a client wrote. All faults are reported, each with its field.
    pub fn parse(
        cart_id: CartId,
        payment_method: Option<String>,
        ship_to: Option<Address>,
        expected_total: Option<Money>,
    ) -> Result<Self, Vec<FieldError>> {
        let mut faults = Vec::new();
        let payment_method = payment(payment_method, &mut faults);
        if let Some(address) = &ship_to {
            address.check("ship_to", &mut faults);
        }
        if faults.is_empty() {
            Ok(Self { cart_id, payment_method, ship_to, expected_total })
        } else {
            Err(faults)
        }
    }
}

/// Who says nothing of it pays on account.
fn payment(method: Option<String>, faults: &mut Vec<FieldError>) -> PaymentMethod {
    let Some(text) = method else { return PaymentMethod::account() };
    PaymentMethod::parse(text).unwrap_or_else(|fault| {
        faults.push(fault);
        PaymentMethod::account()
    })
}

/// An order that was placed elsewhere and comes in with its prices and its date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportOrder {
    /// Number of the document; the key by which a second import finds it.
    pub reference: String,
    /// Who ordered.
    pub user_id: UserId,
    /// A sale, or goods taken back.
    pub kind: OrderKind,
    /// At least one line.
    pub lines: Vec<OrderLine>,
    /// When it was placed.
    pub placed_at: Timestamp,
}

/// What became of one [`ImportOrder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Imported {
    /// Stored now.
    Added,
    /// There already, with the same lines.
    Unchanged,
    /// There already, with other lines; left as it was.
    Conflicting,
}

/// What went wrong in a call to [`Orders`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum OrdersError {
    /// There is no such order.
    #[error("there is no order {id}")]
    NotFound {
        /// The id asked for.
        id: OrderId,
    },
    /// The user who should order does not exist.
    #[error("there is no user {id}")]
    NoSuchUser {
        /// The id given.
        id: UserId,
    },
    /// A product of the order does not exist.
    #[error("there is no product {id}")]
    NoSuchProduct {
        /// The id given.
        id: ProductId,
        /// Which line names it, counted from 0.
        line: usize,
    },
    /// The total does not fit, or the products are priced in several currencies.
    #[error("the order has no total: {reason}")]
    NoTotal {
        /// Why.
        reason: String,
    },
    /// A token was given, and there is no payment provider.
    #[error("no payment provider is configured; pay on `account`")]
    NoPaymentProvider,
    /// The cart cannot be checked out: it does not exist or is closed.
    #[error(transparent)]
    Cart(CartError),
    /// The cart has no user, so there is nobody to sell to.
    #[error("cart {id} belongs to nobody yet; assign it to a user first")]
    CartOfNobody {
        /// The cart.
        id: CartId,
    },
    /// The cart is empty.
    #[error("cart {id} is empty")]
    EmptyCart {
        /// The cart.
        id: CartId,
    },
    /// Prices have changed since the buyer looked.
    #[error("the total is {} {} now", total.minor, total.currency.code())]
    OtherTotal {
        /// The total now, in minor units.
        total: Money,
    },
    /// The order stands where it cannot be called off.
    #[error("order {id} cannot be called off: it is {status}")]
    NotCancellable {
        /// The order.
        id: OrderId,
        /// Where it stands.
        status: String,
    },
    /// The client's key belongs to another command.
    #[error(transparent)]
    KeyReused(#[from] KeyReused),
    /// The context, or one that it needs, could not be asked or failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl PortError for OrdersError {
    fn unavailable(&self) -> Option<&Unavailable> {
        match self {
            Self::Unavailable(cause) | Self::Cart(CartError::Unavailable(cause)) => Some(cause),
            _ => None,
        }
    }
}

/// A confirmed order was called off: what was promised for it is to be given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCancelled {
    /// Which order.
    pub order_id: OrderId,
}

impl DomainEvent for OrderCancelled {
    const KIND: &'static str = "orders.OrderCancelled";

    fn aggregate(&self) -> String {
        format!("order/{}", self.order_id)
    }
}

port! {
/// The orders context, as others call it.
pub trait Orders observed by ObservedOrders in CONTEXT;
{
    /// Takes an order down as `pending`, at today's prices. Stock, payment and shipment follow by themselves; the order
    /// then is `confirmed` or `rejected`. Idempotent by the key of the call.
    async fn place(&self, ctx: &CallContext, order: PlaceOrder) -> Result<Order, OrdersError>;

    /// Makes an order of a cart, at today's prices. Idempotent by cart: a cart becomes one order.
    async fn check_out(&self, ctx: &CallContext, check_out: CheckOut) -> Result<Order, OrdersError>;

    /// The order with this id.
    async fn get(&self, ctx: &CallContext, id: OrderId) -> Result<Order, OrdersError>;

    /// A user's orders with an id above `after`, ascending, at most `limit`.
    async fn list(&self, ctx: &CallContext, user_id: UserId, after: Option<OrderId>, limit: u32) -> Result<Page<Order>, OrdersError>;

    /// What happened to an order after position `after`, the oldest first, at most `limit`.
    async fn history(&self, ctx: &CallContext, id: OrderId, after: Option<i64>, limit: u32) -> Result<Page<HistoryEntry>, OrdersError>;

    /// Calls an order off. A pending one is `cancelled` as soon as its checkout notices; a confirmed one is `cancelling` until
    /// stock, payment and shipment have answered. Calling off again succeeds and changes nothing more. A rejected order and
    /// a credit note are [`OrdersError::NotCancellable`].
    async fn cancel(&self, ctx: &CallContext, id: OrderId) -> Result<Order, OrdersError>;

    /// Stores orders that were placed elsewhere, in one transaction. Idempotent by reference.
    async fn import(&self, ctx: &CallContext, batch: Vec<ImportOrder>) -> Result<Vec<Imported>, OrdersError>;
}
}
