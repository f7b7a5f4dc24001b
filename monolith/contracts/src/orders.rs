//! The orders context: what a user bought, at which price, and what was taken back.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{CallContext, FieldError, Money, OrderId, Page, ProductId, Timestamp, Unavailable, UserId};

/// The context's name, as flags, routes and mappings know it.
pub const CONTEXT: &str = "orders";

/// Most lines of one order placed through the API.
pub const LINES_MAX: usize = 500;

/// An order as the context holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// When it was cancelled.
    pub cancelled_at: Option<Timestamp>,
}

/// A sale, or goods taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderKind {
    /// The user buys.
    Sale,
    /// A credit note: the quantities are units taken back, the total is what the user gets.
    Cancellation,
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// Accepted.
    Placed,
    /// Called off by the user.
    Cancelled,
}

/// One product of an order, at the price of that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

impl PlaceOrder {
    /// Checks what a client wrote. All faults are reported, each with its field.
    pub fn parse(user_id: UserId, lines: Vec<(ProductId, u32)>) -> Result<Self, Vec<FieldError>> {
        let mut faults = Vec::new();
        if lines.is_empty() || lines.len() > LINES_MAX {
            faults.push(FieldError::new("lines", format!("must hold 1 to {LINES_MAX} lines")));
        }
        for (index, (_, quantity)) in lines.iter().enumerate() {
            if !(1..=1_000_000).contains(quantity) {
                faults.push(FieldError::new(format!("lines[{index}].quantity"), "must be from 1 to 1000000"));
            }
        }
        if faults.is_empty() { Ok(Self { user_id, lines }) } else { Err(faults) }
    }
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
    /// The context, or one that it needs, could not be asked or failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The orders context, as others call it.
#[async_trait]
pub trait Orders: Send + Sync {
    /// Places an order after asking users and catalog.
    async fn place(&self, ctx: &CallContext, order: PlaceOrder) -> Result<Order, OrdersError>;

    /// The order with this id.
    async fn get(&self, ctx: &CallContext, id: OrderId) -> Result<Order, OrdersError>;

    /// A user's orders with an id above `after`, ascending, at most `limit`.
    async fn list(
        &self,
        ctx: &CallContext,
        user_id: UserId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Page<Order>, OrdersError>;

    /// Calls an order off. Calling off twice succeeds and changes nothing more.
    async fn cancel(&self, ctx: &CallContext, id: OrderId) -> Result<Order, OrdersError>;

    /// Stores orders that were placed elsewhere, in one transaction. Idempotent by reference.
    async fn import(&self, ctx: &CallContext, batch: Vec<ImportOrder>) -> Result<Vec<Imported>, OrdersError>;
}
