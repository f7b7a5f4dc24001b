//! The cart context: what somebody means to buy, before they do.
//!
//! Invariant: a user has at most one open cart. A cart holds no promise: prices are those seen when an item was put in, and
//! are read again at checkout.

use serde::{Deserialize, Serialize};

use crate::events::DomainEvent;
use crate::port::PortError;
use crate::{
    CallContext, CartId, FieldError, KeyReused, Money, OrderId, ProductId, Timestamp, Unavailable, UserId,
    port,
};

/// The context's name, as flags, routes and mappings know it.
pub const CONTEXT: &str = "cart";

/// Most different products in a cart.
pub const ITEMS_MAX: usize = 100;
/// Most units of one product in a cart.
pub const QUANTITY_MAX: u32 = 1_000_000;

/// A cart as the context holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cart {
    /// Given at random.
    pub id: CartId,
    /// Whose it is; nobody's yet where it is anonymous.
    pub user_id: Option<UserId>,
    /// Where it stands.
    pub status: CartStatus,
    /// The order that it became, once it was checked out.
    pub order_id: Option<OrderId>,
    /// In order of product.
    pub items: Vec<CartItem>,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Grows with every change of this cart.
    pub version: i64,
}

/// One product of a cart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CartItem {
    /// The product.
    pub product_id: ProductId,
    /// Units; from 1 to [`QUANTITY_MAX`].
    pub quantity: u32,
    /// Price of one unit when it was last put in. The order will have the price of its own moment.
    pub unit_price: Money,
}

/// Where a cart stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CartStatus {
    /// It can be changed.
    Open,
    /// Its items went into the cart of its user. Final.
    Merged,
    /// It became an order. Final.
    CheckedOut,
}

/// Units of a product to put into a cart, checked: see [`PutItem::parse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutItem {
    /// The product.
    pub product_id: ProductId,
    /// Units.
    pub quantity: u32,
}

impl PutItem {
    /// Checks what a client wrote.
    pub fn parse(product_id: ProductId, quantity: u32) -> Result<Self, Vec<FieldError>> {
        if (1..=QUANTITY_MAX).contains(&quantity) {
            return Ok(Self { product_id, quantity });
        }
        Err(vec![FieldError::new("quantity", format!("must be from 1 to {QUANTITY_MAX}"))])
    }
}

/// A cart became an order. Written by the orders context, heard by the cart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CartCheckedOut {
    /// Which cart.
    pub cart_id: CartId,
    /// Which order.
    pub order_id: OrderId,
    /// What the order took, product by product. What was put in since stays in the user's cart.
    pub items: Vec<(ProductId, u32)>,
}

impl DomainEvent for CartCheckedOut {
    const KIND: &'static str = "orders.CartCheckedOut";

    fn aggregate(&self) -> String {
        format!("cart/{}", self.cart_id)
    }
}

/// What went wrong in a call to [`Carts`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum CartError {
    /// There is no such cart.
    #[error("there is no cart {id}")]
    NotFound {
        /// The id asked for.
        id: CartId,
    },
    /// The cart was merged or checked out.
    #[error("cart {id} is closed: it was merged into another one or checked out")]
    Closed {
        /// The cart.
        id: CartId,
    },
    /// The cart was changed since the caller looked.
    #[error("cart {id} was changed since; it is at version {version} now")]
    Changed {
        /// The cart.
        id: CartId,
        /// Its version now.
        version: i64,
    },
    /// The product does not exist.
    #[error("there is no product {id}")]
    NoSuchProduct {
        /// The id given.
        id: ProductId,
    },
    /// The user does not exist.
    #[error("there is no user {id}")]
    NoSuchUser {
        /// The id given.
        id: UserId,
    },
    /// The cart belongs to another user.
    #[error("cart {id} belongs to another user")]
    OtherUser {
        /// The cart.
        id: CartId,
    },
    /// The cart would hold too much.
    #[error("the cart would be too full: at most {ITEMS_MAX} products, and {QUANTITY_MAX} units of each")]
    TooFull,
    /// The client's key belongs to another command.
    #[error(transparent)]
    KeyReused(#[from] KeyReused),
    /// The context, or one that it needs, could not be asked or failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl PortError for CartError {
    fn unavailable(&self) -> Option<&Unavailable> {
        if let Self::Unavailable(cause) = self { Some(cause) } else { None }
    }
}

port! {
/// The cart context, as others call it. Where `expected` is given, a cart at another version is left as it is and answered
/// with [`CartError::Changed`].
pub trait Carts observed by ObservedCarts in CONTEXT;
{
    /// Begins a cart, anonymous or for a user. A user who has an open cart gets that one.
    async fn open(&self, ctx: &CallContext, user_id: Option<UserId>) -> Result<Cart, CartError>;

    /// The cart with this id.
    async fn get(&self, ctx: &CallContext, id: CartId) -> Result<Cart, CartError>;

    /// Adds units of a product to those that are in the cart.
    async fn add(&self, ctx: &CallContext, id: CartId, item: PutItem, expected: Option<i64>) -> Result<Cart, CartError>;

    /// Sets the units of a product. Idempotent but for the version.
    async fn set(&self, ctx: &CallContext, id: CartId, item: PutItem, expected: Option<i64>) -> Result<Cart, CartError>;

    /// Takes a product out; succeeds where it is not in.
    async fn take_out(&self, ctx: &CallContext, id: CartId, product_id: ProductId, expected: Option<i64>) -> Result<Cart, CartError>;

    /// Says whose cart it is. Where the user has another open cart, the items go into that one, quantities added, and it is
    /// returned. Idempotent.
    async fn assign(&self, ctx: &CallContext, id: CartId, user_id: UserId) -> Result<Cart, CartError>;
}
}
