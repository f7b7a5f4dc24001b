//! The inventory context: how many units of a product lie in which warehouse, and which of them are promised.
//!
//! Invariant: of no product are more units promised than there are. An order holds at most one reservation, and a release
//! is final: a reservation that arrives after it is refused.

use serde::{Deserialize, Serialize};

use crate::events::DomainEvent;
use crate::port::PortError;
use crate::{
    CallContext, FieldError, KeyReused, OrderId, Page, ProductId, Timestamp, Unavailable, WarehouseId, port,
};

/// The context's name, as flags, routes and mappings know it.
pub const CONTEXT: &str = "inventory";

/// Most units of one product in one warehouse, and most units of one adjustment.
pub const UNITS_MAX: i64 = 1_000_000_000;

/// A place where goods lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Warehouse {
    /// Assigned by the context. Reservations take from the lowest id first.
    pub id: WarehouseId,
    /// Short and unique, such as `main`.
    pub code: String,
    /// What people call it.
    pub name: String,
}

/// What a client may say of a warehouse, checked: see [`WarehouseDetails::parse`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarehouseDetails {
    /// Short and unique: lower-case letters, digits and hyphens.
    pub code: String,
    /// What people call it.
    pub name: String,
}

impl WarehouseDetails {
    /// Checks what a client wrote. All faults are reported, each with its field.
    pub fn parse(code: String, name: String) -> Result<Self, Vec<FieldError>> {
        let mut faults = Vec::new();
        let is_code = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if code.is_empty() || code.len() > 40 || !code.chars().all(is_code) {
            faults.push(FieldError::new("code", "must be 1 to 40 lower-case letters, digits and hyphens"));
        }
        crate::text::check(&mut faults, "name", &name, 200);
        if faults.is_empty() { Ok(Self { code, name }) } else { Err(faults) }
    }
}

/// The units of one product in one warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StockLevel {
    /// Where.
    pub warehouse_id: WarehouseId,
    /// Of what.
    pub product_id: ProductId,
    /// Units that lie there; never below `reserved`.
    pub on_hand: i64,
    /// Units of them that are promised to orders; never below zero.
    pub reserved: i64,
}

/// Goods that came in, or went in another way than by an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adjustment {
    /// Where.
    pub warehouse_id: WarehouseId,
    /// Of what. Not looked up: stock may be counted before the catalog knows the product.
    pub product_id: ProductId,
    /// Units: above zero came in, below zero went.
    pub delta: i64,
    /// Why, for people.
    pub reason: String,
}

impl Adjustment {
    /// Checks what a client wrote. All faults are reported, each with its field.
    pub fn parse(
        warehouse_id: WarehouseId,
        product_id: ProductId,
        delta: i64,
        reason: String,
    ) -> Result<Self, Vec<FieldError>> {
        let mut faults = Vec::new();
        if delta == 0 || !(-UNITS_MAX..=UNITS_MAX).contains(&delta) {
            let rule = format!("must be from -{UNITS_MAX} to {UNITS_MAX} and not 0");
            faults.push(FieldError::new("delta", rule));
        }
        crate::text::check(&mut faults, "reason", &reason, 200);
        if faults.is_empty() { Ok(Self { warehouse_id, product_id, delta, reason }) } else { Err(faults) }
    }
}

/// A promise of goods to an order: all of its lines or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// For which order. Reserving again for the same order returns the same reservation.
    pub order_id: OrderId,
    /// Products and units; a product that stands there twice counts with its sum.
    pub lines: Vec<(ProductId, u32)>,
    /// When the promise ends by itself unless it is confirmed.
    pub expires_at: Timestamp,
}

/// A promise of goods to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reservation {
    /// For which order.
    pub order_id: OrderId,
    /// Where it stands.
    pub status: ReservationStatus,
    /// What was taken from where; empty where nothing was ever reserved.
    pub lines: Vec<ReservedLine>,
    /// When it ends by itself while it is held.
    pub expires_at: Timestamp,
}

/// Units of one product taken from one warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReservedLine {
    /// Where.
    pub warehouse_id: WarehouseId,
    /// Of what.
    pub product_id: ProductId,
    /// Units; above zero.
    pub quantity: u32,
}

/// Where a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ReservationStatus {
    /// The units are promised until the reservation expires.
    Held,
    /// The units have left the stock for the order.
    Confirmed,
    /// The units are back in stock, by release or because the reservation expired. Final.
    Released,
}

/// All stock of an order was given back after a cancellation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockReleased {
    /// Which order's.
    pub order_id: OrderId,
}

impl DomainEvent for StockReleased {
    const KIND: &'static str = "inventory.StockReleased";

    fn aggregate(&self) -> String {
        format!("order/{}", self.order_id)
    }
}

/// What went wrong in a call to [`Inventory`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum InventoryError {
    /// There is no such warehouse.
    #[error("there is no warehouse {id}")]
    NoSuchWarehouse {
        /// The id given.
        id: WarehouseId,
    },
    /// Another warehouse has this code.
    #[error("the code `{code}` is taken by another warehouse")]
    CodeTaken {
        /// The code.
        code: String,
    },
    /// The order has no reservation.
    #[error("order {order_id} has no reservation")]
    NoReservation {
        /// The order.
        order_id: OrderId,
    },
    /// Too few units are free. Nothing was reserved.
    #[error("of product {product_id} {wanted} units are wanted and {available} are free")]
    OutOfStock {
        /// Of which product.
        product_id: ProductId,
        /// How many are wanted.
        wanted: u64,
        /// How many are free over all warehouses.
        available: u64,
    },
    /// An adjustment would leave fewer units than are promised, or more than a warehouse can hold.
    #[error(
        "the adjustment would leave {left} units, and {reserved} are promised; from that to {UNITS_MAX} is allowed"
    )]
    Impossible {
        /// What would be left.
        left: i64,
        /// What is promised.
        reserved: i64,
    },
    /// The reservation was released before, by a caller or by its expiry.
    #[error("the reservation of order {order_id} was released")]
    Released {
        /// The order.
        order_id: OrderId,
    },
    /// The client's key belongs to another command.
    #[error(transparent)]
    KeyReused(#[from] KeyReused),
    /// The context could not be asked or failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl PortError for InventoryError {
    fn unavailable(&self) -> Option<&Unavailable> {
        if let Self::Unavailable(cause) = self { Some(cause) } else { None }
    }
}

port! {
/// The inventory context, as others call it.
pub trait Inventory observed by ObservedInventory in CONTEXT;
{
    /// Adds a warehouse.
    async fn add_warehouse(&self, ctx: &CallContext, details: WarehouseDetails) -> Result<Warehouse, InventoryError>;

    /// The warehouse with this id.
    async fn warehouse(&self, ctx: &CallContext, id: WarehouseId) -> Result<Warehouse, InventoryError>;

    /// Warehouses with an id above `after`, ascending, at most `limit`.
    async fn warehouses(&self, ctx: &CallContext, after: Option<WarehouseId>, limit: u32) -> Result<Page<Warehouse>, InventoryError>;

    /// Books goods in or out and returns the level after it.
    async fn adjust(&self, ctx: &CallContext, adjustment: Adjustment) -> Result<StockLevel, InventoryError>;

    /// Gives every product of the list that has no stock anywhere this many units in the warehouse with the lowest id
    /// (`main`, which is added where there is none), and returns how many products got some. Idempotent.
    async fn ensure_stock(&self, ctx: &CallContext, products: Vec<ProductId>, units: u32) -> Result<u64, InventoryError>;

    /// The levels of a product in every warehouse that ever held it, by warehouse.
    async fn stock(&self, ctx: &CallContext, product_id: ProductId) -> Result<Vec<StockLevel>, InventoryError>;

    /// Promises goods to an order: all lines or none. Idempotent by order.
    async fn reserve(&self, ctx: &CallContext, reserve: Reserve) -> Result<Reservation, InventoryError>;

    /// Takes the promised goods out of stock for good. Idempotent; [`InventoryError::Released`] after a release.
    async fn confirm(&self, ctx: &CallContext, order_id: OrderId) -> Result<Reservation, InventoryError>;

    /// Gives everything back, whether it was held or confirmed. Idempotent, and succeeds where nothing was reserved: then
    /// a reservation that arrives later is refused.
    async fn release(&self, ctx: &CallContext, order_id: OrderId) -> Result<(), InventoryError>;

    /// The reservation of an order.
    async fn reservation(&self, ctx: &CallContext, order_id: OrderId) -> Result<Reservation, InventoryError>;

    /// Releases held reservations that have expired, at most `limit`, and returns how many. Idempotent.
    async fn expire(&self, ctx: &CallContext, limit: u32) -> Result<u64, InventoryError>;
}
}
