//! The shipping context: bringing an order's goods to its buyer.
//!
//! Invariant: an order has at most one shipment. Stopping is final: a shipment scheduled after it is refused; and what was
//! handed over cannot be stopped.

use serde::{Deserialize, Serialize};

use crate::events::DomainEvent;
use crate::port::PortError;
use crate::users::Address;
use crate::{CallContext, KeyReused, OrderId, Timestamp, Unavailable, port};

/// The context's name, as flags, routes and mappings know it.
pub const CONTEXT: &str = "shipping";

/// A wish to have an order's goods brought to its buyer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Which order's. Scheduling again for the same order returns the same shipment.
    pub order_id: OrderId,
    /// Where to; nothing where the buyer collects the goods.
    pub address: Option<Address>,
}

/// The shipment of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Shipment {
    /// Of which order.
    pub order_id: OrderId,
    /// What carrier and buyer track it by: `BNY` and ten digits; nothing where it was stopped before it was scheduled.
    pub tracking_code: Option<String>,
    /// Where to; nothing where the buyer collects the goods.
    pub address: Option<Address>,
    /// Where it stands.
    pub status: ShipmentStatus,
    /// Every step so far, the oldest first.
    pub steps: Vec<ShipmentStep>,
}

/// One step of a shipment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShipmentStep {
    /// Where it stood from then on.
    pub status: ShipmentStatus,
    /// When.
    pub at: Timestamp,
}

/// Where a shipment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ShipmentStatus {
    /// It will be handed over.
    Scheduled,
    /// The carrier has it.
    HandedOver,
    /// The buyer has it. Final.
    Delivered,
    /// It will not be handed over. Final.
    Stopped,
}

/// An order's shipment will not leave the house.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShipmentStopped {
    /// Which order's.
    pub order_id: OrderId,
}

impl DomainEvent for ShipmentStopped {
    const KIND: &'static str = "shipping.ShipmentStopped";

    fn aggregate(&self) -> String {
        format!("order/{}", self.order_id)
    }
}

/// An order's shipment could not be stopped: it was handed over before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShipmentStopFailed {
    /// Which order's.
    pub order_id: OrderId,
    /// Why.
    pub reason: String,
}

impl DomainEvent for ShipmentStopFailed {
    const KIND: &'static str = "shipping.ShipmentStopFailed";

    fn aggregate(&self) -> String {
        format!("order/{}", self.order_id)
    }
}

/// What went wrong in a call to [`Shipping`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ShippingError {
    /// The order has no shipment.
    #[error("order {order_id} has no shipment")]
    NotFound {
        /// The order.
        order_id: OrderId,
    },
    /// The shipment was stopped before.
    #[error("the shipment of order {order_id} was stopped")]
    Stopped {
        /// The order.
        order_id: OrderId,
    },
    /// The shipment cannot go from where it stands to where it should.
    #[error("the shipment of order {order_id} is {from} and cannot become {to}")]
    WrongStep {
        /// The order.
        order_id: OrderId,
        /// Where it stands.
        from: String,
        /// Where it should go.
        to: String,
    },
    /// The client's key belongs to another command.
    #[error(transparent)]
    KeyReused(#[from] KeyReused),
    /// The context could not be asked or failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl PortError for ShippingError {
    fn unavailable(&self) -> Option<&Unavailable> {
        if let Self::Unavailable(cause) = self { Some(cause) } else { None }
    }
}

port! {
/// The shipping context, as others call it.
pub trait Shipping observed by ObservedShipping in CONTEXT;
{
    /// Schedules the shipment of an order. Idempotent by order; [`ShippingError::Stopped`] after a stop.
    async fn schedule(&self, ctx: &CallContext, schedule: Schedule) -> Result<Shipment, ShippingError>;

    /// Stops the shipment of an order. Idempotent, and succeeds where there is none: then one scheduled later is refused.
    /// [`ShippingError::WrongStep`] once it was handed over.
    async fn stop(&self, ctx: &CallContext, order_id: OrderId) -> Result<(), ShippingError>;

    /// Notes what the carrier says: handed over, then delivered. Idempotent.
    async fn advance(&self, ctx: &CallContext, order_id: OrderId, to: ShipmentStatus) -> Result<Shipment, ShippingError>;

    /// The shipment of an order.
    async fn track(&self, ctx: &CallContext, order_id: OrderId) -> Result<Shipment, ShippingError>;
}
}
