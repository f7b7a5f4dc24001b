//! The events that the context hears.
//!
//! Invariant: an event and its effect are one transaction, so it takes effect once, however often it comes.

use async_trait::async_trait;
use contracts::cart::{CONTEXT, CartCheckedOut, CartError};
use contracts::events::{DomainEvent, Envelope, EventHandler, HandleError};
use contracts::{CallContext, CartId};
use db::events::first_time;
use uuid::Uuid;

use crate::CartService;
use crate::store;

#[async_trait]
impl EventHandler for CartService {
    fn consumer(&self) -> &'static str {
        CONTEXT
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[CartCheckedOut::KIND]
    }

    async fn handle(&self, _: &CallContext, event: &Envelope) -> Result<(), HandleError> {
        let heard: CartCheckedOut = event.open()?;
        let (envelope, now) = (event.clone(), self.clock.now());
        let next = CartId::from_random(Uuid::new_v4().as_u128());
        let handled = self.db.write(move |conn| {
            if !first_time(conn, CONTEXT, &envelope, now)? {
                return Ok(true);
            }
            store::check_out(conn, &heard, &next, now)
        });
        match handled.await.map_err(CartError::from) {
            Ok(true) => Ok(()),
            Ok(false) => Err(rejected("the cart became another order before")),
            Err(CartError::Unavailable(error)) => Err(error.into()),
            Err(other) => Err(rejected(&other.to_string())),
        }
    }
}

fn rejected(reason: &str) -> HandleError {
    HandleError::Rejected { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
