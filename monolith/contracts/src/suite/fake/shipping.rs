//! A shipping context in memory.
//!
//! Invariant: shows every fact of the port's suite.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::json;

use super::{Commands, EPOCH, Keys, Mishap};
use crate::shipping::{CONTEXT, Schedule, Shipment, ShipmentStatus, ShipmentStep, Shipping, ShippingError};
use crate::{CallContext, OrderId};

/// A shipping context in memory.
#[derive(Debug, Default)]
pub struct FakeShipping {
    state: Mutex<State>,
    keys: Keys,
    commands: Commands,
}

#[derive(Debug, Default)]
struct State(BTreeMap<OrderId, Shipment>);

impl FakeShipping {
    /// The next call of this command (`schedule`, `stop` or `advance`) ends like this; several are used up in turn.
    /// A refusal is [`ShippingError::Stopped`].
    pub fn befall(&self, command: &'static str, mishap: Mishap) {
        self.commands.befall(command, mishap);
    }

    /// How often this command was called, mishaps included.
    pub fn calls(&self, command: &str) -> u64 {
        self.commands.calls(command)
    }

    /// Orders whose goods are on their way, or will be.
    pub fn under_way(&self) -> Vec<OrderId> {
        let state = self.state();
        let shipments = state.0.values().filter(|shipment| shipment.status != ShipmentStatus::Stopped);
        shipments.map(|shipment| shipment.order_id).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<T>(
        &self,
        command: &'static str,
        order_id: OrderId,
        work: impl FnOnce(&mut State) -> Result<T, ShippingError>,
    ) -> Result<T, ShippingError> {
        let refused = |_| ShippingError::Stopped { order_id };
        self.commands.run((CONTEXT, command), refused, || work(&mut self.state()))
    }
}

impl State {
    fn schedule(&mut self, wish: Schedule) -> Result<Shipment, ShippingError> {
        let Schedule { order_id, address } = wish;
        let scheduled = || {
            let status = ShipmentStatus::Scheduled;
            let tracking_code = Some(format!("BNY{order_id:010}"));
            Shipment { order_id, tracking_code, address, status, steps: vec![step(status)] }
        };
        let shipment = self.0.entry(order_id).or_insert_with(scheduled);
        match shipment.status {
            ShipmentStatus::Stopped => Err(ShippingError::Stopped { order_id }),
            _ => Ok(shipment.clone()),
        }
    }

    fn stop(&mut self, order_id: OrderId) -> Result<(), ShippingError> {
        let status = ShipmentStatus::Stopped;
        let shipment = self.0.entry(order_id).or_insert(Shipment {
            order_id,
            tracking_code: None,
            address: None,
            status,
            steps: vec![step(status)],
        });
        match shipment.status {
            ShipmentStatus::Stopped => {}
            ShipmentStatus::Scheduled => go(shipment, status),
            from => return Err(wrong_step(order_id, from, status)),
        }
        Ok(())
    }

    fn advance(&mut self, order_id: OrderId, to: ShipmentStatus) -> Result<Shipment, ShippingError> {
        use ShipmentStatus::{Delivered, HandedOver, Scheduled};
        let shipment = self.0.get_mut(&order_id).ok_or(ShippingError::NotFound { order_id })?;
        match (shipment.status, to) {
            (from, to) if from == to => {}
            (Scheduled, HandedOver) | (HandedOver, Delivered) => go(shipment, to),
            (from, to) => return Err(wrong_step(order_id, from, to)),
        }
        Ok(shipment.clone())
    }
}

fn go(shipment: &mut Shipment, to: ShipmentStatus) {
    shipment.status = to;
    shipment.steps.push(step(to));
}

fn step(status: ShipmentStatus) -> ShipmentStep {
    ShipmentStep { status, at: EPOCH }
}

fn wrong_step(order_id: OrderId, from: ShipmentStatus, to: ShipmentStatus) -> ShippingError {
    let word = |status| json!(status).as_str().unwrap_or_default().to_owned();
    ShippingError::WrongStep { order_id, from: word(from), to: word(to) }
}

#[async_trait]
impl Shipping for FakeShipping {
    async fn schedule(&self, _: &CallContext, schedule: Schedule) -> Result<Shipment, ShippingError> {
        self.run("schedule", schedule.order_id, |state| state.schedule(schedule))
    }

    async fn stop(&self, _: &CallContext, order_id: OrderId) -> Result<(), ShippingError> {
        self.run("stop", order_id, |state| state.stop(order_id))
    }

    async fn advance(
        &self,
        ctx: &CallContext,
        order_id: OrderId,
        to: ShipmentStatus,
    ) -> Result<Shipment, ShippingError> {
        if let Some(shipment) = self.keys.found(ctx, "advance")? {
            return Ok(shipment);
        }
        let shipment = self.run("advance", order_id, |state| state.advance(order_id, to))?;
        Ok(self.keys.keep(ctx, "advance", shipment))
    }

    async fn track(&self, _: &CallContext, order_id: OrderId) -> Result<Shipment, ShippingError> {
        self.state().0.get(&order_id).cloned().ok_or(ShippingError::NotFound { order_id })
    }
}
