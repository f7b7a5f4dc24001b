//! The checkout of an order: the saga that has its goods and its money promised, and then taken.
//!
//! Invariant: every step and every undo is idempotent by the order's id, and an undo leaves behind what refuses the step that
//! arrives after it.

use std::sync::Arc;

use async_trait::async_trait;
use contracts::inventory::{Inventory, InventoryError, Reserve};
use contracts::orders::{Order, Orders, OrdersError};
use contracts::payments::{Authorise, PaymentMethod, Payments, PaymentsError};
use contracts::shipping::{Schedule, Shipping, ShippingError};
use contracts::{CallContext, OrderId, Timestamp};
use db::events::Origin;
use db::saga::{self, Saga, StepError};
use db::{Conn, DbError};
use serde::{Deserialize, Serialize};

use crate::OrdersService;
use crate::domain::Command;
use crate::store::StoreError;

// Parameters

/// What a checkout knows besides its order.
#[derive(Clone, Serialize, Deserialize)]
pub struct State {
    order_id: OrderId,
    /// Kept until the payment is authorised or the checkout given up, and nowhere else: it may be a token.
    payment_method: Option<PaymentMethod>,
    /// Why the checkout turned back, for the order's user.
    refusal: Option<String>,
}

/// How long goods wait for the payment.
const RESERVED_FOR_MS: i64 = 15 * 60 * 1000;

/// What a user learns whose order failed by no refusal.
const TOO_LATE: &str = "it could not be processed in time";

// Actions

const CREATE_ORDER: &str = "create_order";
const RESERVE_STOCK: &str = "reserve_stock";
const AUTHORISE_PAYMENT: &str = "authorise_payment";
const CONFIRM_ORDER: &str = "confirm_order";
const CAPTURE_PAYMENT: &str = "capture_payment";
const SCHEDULE_SHIPPING: &str = "schedule_shipping";

// Definition

/// The saga of an order's checkout.
pub struct Checkout {
    orders: OrdersService,
    inventory: Arc<dyn Inventory>,
    payments: Arc<dyn Payments>,
    shipping: Arc<dyn Shipping>,
}

impl Checkout {
    /// The checkout of these orders, over these ports.
    pub fn new(
        orders: OrdersService,
        inventory: Arc<dyn Inventory>,
        payments: Arc<dyn Payments>,
        shipping: Arc<dyn Shipping>,
    ) -> Self {
        Self { orders, inventory, payments, shipping }
    }
}

/// Begins the checkout of an order in the transaction that creates it, which is the first step.
pub(crate) fn begin(
    conn: &mut Conn,
    order_id: OrderId,
    payment_method: PaymentMethod,
    origin: &Origin,
    now: Timestamp,
) -> Result<(), DbError> {
    let state = State { order_id, payment_method: Some(payment_method), refusal: None };
    saga::begin(conn, Checkout::KIND, &order_id.to_string(), &state, 1, origin, now)
}

#[async_trait]
impl Saga for Checkout {
    const KIND: &'static str = "checkout";

    type State = State;

    fn steps(&self) -> &'static [&'static str] {
        &[CREATE_ORDER, RESERVE_STOCK, AUTHORISE_PAYMENT, CONFIRM_ORDER, CAPTURE_PAYMENT, SCHEDULE_SHIPPING]
    }

    async fn run(&self, step: &str, ctx: &CallContext, state: &mut State) -> Result<(), StepError> {
        let done = match step {
            RESERVE_STOCK => self.reserve_stock(ctx, state.order_id).await,
            AUTHORISE_PAYMENT => self.authorise_payment(ctx, state).await,
            CONFIRM_ORDER => self.confirm_order(ctx, state.order_id).await,
            CAPTURE_PAYMENT => self.capture_payment(ctx, state.order_id).await,
            SCHEDULE_SHIPPING => self.schedule_shipping(ctx, state.order_id).await,
            // The order was created in the transaction that began the checkout.
            _ => Ok(()),
        };
        if let Err(StepError::Refused { reason }) = &done {
            state.refusal = Some(reason.clone());
        }
        done
    }

    async fn undo(&self, step: &str, ctx: &CallContext, state: &mut State) -> Result<(), StepError> {
        let reason = state.refusal.clone().unwrap_or_else(|| TOO_LATE.to_owned());
        match step {
            SCHEDULE_SHIPPING => self.stop_shipping(ctx, state.order_id).await,
            CONFIRM_ORDER => self.tell(ctx, state.order_id, Command::TakeBack { reason }).await,
            AUTHORISE_PAYMENT => self.refund_payment(ctx, state).await,
            RESERVE_STOCK => self.release_stock(ctx, state.order_id).await,
            CREATE_ORDER => {
                state.payment_method = None;
                self.tell(ctx, state.order_id, Command::GiveUp { reason }).await
            }
            // What was captured is given back with what was authorised.
            _ => Ok(()),
        }
    }
}

// Implementations

impl Checkout {
    async fn reserve_stock(&self, ctx: &CallContext, order_id: OrderId) -> Result<(), StepError> {
        let order = self.wanted(ctx, order_id).await?;
        let lines = order.lines.iter().map(|line| (line.product_id, line.quantity)).collect();
        let until = self.orders.clock.now().as_millis().saturating_add(RESERVED_FOR_MS);
        let reserve = Reserve { order_id, lines, expires_at: Timestamp::from_millis(until) };
        self.inventory.reserve(ctx, reserve).await.map_err(of_inventory)?;
        Ok(())
    }

    async fn release_stock(&self, ctx: &CallContext, order_id: OrderId) -> Result<(), StepError> {
        self.inventory.release(ctx, order_id).await.map_err(retry)
    }

    async fn authorise_payment(&self, ctx: &CallContext, state: &mut State) -> Result<(), StepError> {
        // It goes once it has served.
        let Some(method) = state.payment_method.clone() else { return Ok(()) };
        let order = self.wanted(ctx, state.order_id).await?;
        let authorise = Authorise { order_id: order.id, amount: order.total, method };
        self.payments.authorise(ctx, authorise).await.map_err(of_payments)?;
        state.payment_method = None;
        Ok(())
    }

    async fn refund_payment(&self, ctx: &CallContext, state: &mut State) -> Result<(), StepError> {
        state.payment_method = None;
        self.payments.refund(ctx, state.order_id).await.map_err(retry)
    }

    async fn confirm_order(&self, ctx: &CallContext, order_id: OrderId) -> Result<(), StepError> {
        self.inventory.confirm(ctx, order_id).await.map_err(of_inventory)?;
        self.tell(ctx, order_id, Command::Confirm).await
    }

    async fn capture_payment(&self, ctx: &CallContext, order_id: OrderId) -> Result<(), StepError> {
        self.payments.capture(ctx, order_id).await.map_err(of_payments)?;
        Ok(())
    }

    async fn schedule_shipping(&self, ctx: &CallContext, order_id: OrderId) -> Result<(), StepError> {
        let order = self.wanted(ctx, order_id).await?;
        let scheduled = self.shipping.schedule(ctx, Schedule { order_id, address: order.ship_to }).await;
        scheduled.map_err(of_shipping)?;
        Ok(())
    }

    async fn stop_shipping(&self, ctx: &CallContext, order_id: OrderId) -> Result<(), StepError> {
        match self.shipping.stop(ctx, order_id).await {
            // The order was confirmed, so it is called off next, and the cancellation tells of what left the house.
            Ok(()) | Err(ShippingError::WrongStep { .. }) => Ok(()),
            Err(error) => Err(retry(error)),
        }
    }

    /// The order, unless its user has called it off.
    async fn wanted(&self, ctx: &CallContext, order_id: OrderId) -> Result<Order, StepError> {
        let order = self.orders.get(ctx, order_id).await.map_err(retry)?;
        if order.cancelled_at.is_some() {
            return Err(refused("the order was called off"));
        }
        Ok(order)
    }

    async fn tell(&self, ctx: &CallContext, order_id: OrderId, command: Command) -> Result<(), StepError> {
        self.orders.tell(ctx, order_id, command).await.map_err(|error| match error {
            StoreError::Refused(_, refusal) => refused(format!("the order was {refusal}")),
            other => retry(OrdersError::from(other)),
        })
    }
}

fn of_inventory(error: InventoryError) -> StepError {
    match error {
        InventoryError::Unavailable(cause) => cause.into(),
        InventoryError::OutOfStock { product_id, wanted, available } => refused(format!(
            "product {product_id} is out of stock: {wanted} units are wanted and {available} are free"
        )),
        InventoryError::Released { .. } => refused("its goods are not held for it any longer"),
        _ => refused("its goods cannot be held for it"),
    }
}

fn of_payments(error: PaymentsError) -> StepError {
    match error {
        PaymentsError::Unavailable(cause) => cause.into(),
        PaymentsError::Declined { .. } => refused(error.to_string()),
        PaymentsError::Refunded { .. } => refused("its payment was given back"),
        PaymentsError::NoProvider => refused("cards are not taken at present"),
        PaymentsError::NotFound { .. } | PaymentsError::Refused { .. } | PaymentsError::KeyReused(_) => {
            refused("its payment cannot be taken")
        }
    }
}

fn of_shipping(error: ShippingError) -> StepError {
    match error {
        ShippingError::Unavailable(cause) => cause.into(),
        ShippingError::Stopped { .. } => refused("its shipment was stopped"),
        _ => refused("it cannot be shipped"),
    }
}

fn refused(reason: impl Into<String>) -> StepError {
    StepError::Refused { reason: reason.into() }
}

/// Whatever it is, an undo must get past it, and a read of the own store can only fail by an outage.
fn retry(error: impl std::error::Error) -> StepError {
    StepError::Retry { reason: error.to_string() }
}

// Tests

#[cfg(test)]
mod tests;
