//! The orders port over the store and over the ports of users, catalog, carts and payments.
//!
//! Invariant: other contexts are asked before the transaction begins, so a slow one never holds the writer. A placed order
//! and the saga that sees to it are one transaction.

mod refusals;

use std::sync::Arc;

use async_trait::async_trait;
use contracts::cart::{CartCheckedOut, CartError, CartStatus, Carts};
use contracts::catalog::Catalog;
use contracts::orders::{
    CheckOut, HistoryEntry, ImportOrder, Imported, Order, OrderCancelled, OrderStatus, Orders, OrdersError,
    PlaceOrder,
};
use contracts::payments::Payments;
use contracts::users::Users;
use contracts::{CallContext, CartId, Clock, OrderId, Page, Timestamp, UserId};
use db::events::{Origin, Outbox};
use db::{Conn, Db, idempotency};

use crate::checkout;
use crate::domain::{Command, Draft};
use crate::store::{self, StoreError};

const PLACE: &str = "orders.place";
const CHECK_OUT: &str = "orders.check_out";
const CANCEL: &str = "orders.cancel";

/// The orders context on a database that holds [`SCHEMA`](crate::SCHEMA), the outbox, the sagas and the idempotency keys.
#[derive(Clone)]
pub struct OrdersService {
    pub(crate) db: Db,
    pub(crate) clock: Arc<dyn Clock>,
    outbox: Outbox,
    users: Arc<dyn Users>,
    catalog: Arc<dyn Catalog>,
    carts: Arc<dyn Carts>,
    payments: Arc<dyn Payments>,
}

impl OrdersService {
    /// The context on this database, asking these ports.
    pub fn new(
        db: Db,
        clock: Arc<dyn Clock>,
        outbox: Outbox,
        users: Arc<dyn Users>,
        catalog: Arc<dyn Catalog>,
        carts: Arc<dyn Carts>,
        payments: Arc<dyn Payments>,
    ) -> Self {
        Self { db, clock, outbox, users, catalog, carts, payments }
    }

    /// Tells an order something, in a transaction of its own.
    pub(crate) async fn tell(
        &self,
        ctx: &CallContext,
        id: OrderId,
        command: Command,
    ) -> Result<(), StoreError> {
        let (outbox, origin, now) = (self.outbox.clone(), Origin::from(ctx), self.clock.now());
        self.db.write(move |conn| tell(conn, &outbox, &origin, id, command, now)).await
    }

    /// Asks the others for all that a wish leaves open.
    async fn draft(&self, ctx: &CallContext, wish: PlaceOrder) -> Result<Draft, OrdersError> {
        let user = self.users.get(ctx, wish.user_id).await.map_err(refusals::of_users)?;
        let ids = wish.lines.iter().map(|(id, _)| *id).collect();
        let products = self.catalog.get_many(ctx, ids).await.map_err(refusals::of_catalog)?;
        let method = wish.payment_method.clone();
        self.payments.accepts(ctx, method).await.map_err(refusals::of_payments)?;
        Draft::of(wish, user.details.addresses, &products)
    }

    /// What is in a cart, as a wish and at today's prices.
    async fn draft_of_cart(&self, ctx: &CallContext, check_out: CheckOut) -> Result<Draft, OrdersError> {
        let CheckOut { cart_id: id, payment_method, ship_to, expected_total } = check_out;
        let cart = self.carts.get(ctx, id.clone()).await.map_err(refusals::of_carts)?;
        if cart.status != CartStatus::Open {
            return Err(OrdersError::Cart(CartError::Closed { id }));
        }
        let Some(user_id) = cart.user_id else { return Err(OrdersError::CartOfNobody { id }) };
        if cart.items.is_empty() {
            return Err(OrdersError::EmptyCart { id });
        }
        let lines = cart.items.iter().map(|item| (item.product_id, item.quantity)).collect();
        let draft = self.draft(ctx, PlaceOrder { user_id, lines, payment_method, ship_to }).await?;
        match expected_total {
            Some(expected) if expected != draft.total => Err(OrdersError::OtherTotal { total: draft.total }),
            _ => Ok(Draft { cart_id: Some(id), ..draft }),
        }
    }

    /// The order that a cart became; from now on it is what the key of this call stands for.
    async fn of_cart(&self, ctx: &CallContext, cart_id: &CartId) -> Result<Option<Order>, OrdersError> {
        let cart_id = cart_id.clone();
        match self.db.read(move |conn| store::of_cart(conn, &cart_id)).await? {
            Some(order) if ctx.idempotency.is_some() => {
                Ok(Some(self.once(ctx, CHECK_OUT, move |_, _, _| Ok(order)).await?))
            }
            found => Ok(found),
        }
    }

    /// What came of the call that had this key before.
    async fn replayed(&self, ctx: &CallContext, scope: &'static str) -> Result<Option<Order>, OrdersError> {
        let Some(key) = ctx.idempotency.clone() else { return Ok(None) };
        let found = self.db.read(move |conn| idempotency::replay::<_, StoreError>(conn, scope, Some(&key)));
        Ok(found.await?)
    }

    /// Runs a command in a transaction that keeps the key with the result.
    async fn once<F>(&self, ctx: &CallContext, scope: &'static str, work: F) -> Result<Order, StoreError>
    where
        F: FnOnce(&mut Conn, &Origin, Timestamp) -> Result<Order, StoreError> + Send + 'static,
    {
        let (key, origin, now) = (ctx.idempotency.clone(), Origin::from(ctx), self.clock.now());
        let command = move |conn: &mut Conn| {
            idempotency::once(conn, scope, key.as_ref(), now, |conn| work(conn, &origin, now))
        };
        self.db.write(command).await
    }

    /// The transaction that makes an order of a draft.
    async fn place_new(&self, ctx: &CallContext, order: PlaceOrder) -> Result<Order, StoreError> {
        if let Some(order) = self.replayed(ctx, PLACE).await? {
            return Ok(order);
        }
        let draft = self.draft(ctx, order).await?;
        self.placed(ctx, PLACE, draft).await
    }

    async fn placed(
        &self,
        ctx: &CallContext,
        scope: &'static str,
        draft: Draft,
    ) -> Result<Order, StoreError> {
        let outbox = self.outbox.clone();
        self.once(ctx, scope, move |conn, origin, now| {
            let method = draft.payment_method.clone();
            let order = store::place(conn, draft, now)?;
            checkout::begin(conn, order.id, method, origin, now)?;
            if let Some(cart_id) = order.cart_id.clone() {
                let items = order.lines.iter().map(|line| (line.product_id, line.quantity)).collect();
                outbox.publish(conn, origin, &CartCheckedOut { cart_id, order_id: order.id, items }, now)?;
            }
            Ok(order)
        })
        .await
    }
}

#[async_trait]
impl Orders for OrdersService {
    async fn place(&self, ctx: &CallContext, order: PlaceOrder) -> Result<Order, OrdersError> {
        let (service, ctx) = (self.clone(), ctx.clone());
        Ok(self.db.together(async move { service.place_new(&ctx, order).await }).await?)
    }

    async fn check_out(&self, ctx: &CallContext, check_out: CheckOut) -> Result<Order, OrdersError> {
        if let Some(order) = self.replayed(ctx, CHECK_OUT).await? {
            return Ok(order);
        }
        let cart_id = check_out.cart_id.clone();
        if let Some(order) = self.of_cart(ctx, &cart_id).await? {
            return Ok(order);
        }
        let draft = self.draft_of_cart(ctx, check_out).await?;
        match self.placed(ctx, CHECK_OUT, draft).await {
            // Whoever was faster has committed, so that its order can be seen now.
            Err(StoreError::CartTaken) => {
                self.of_cart(ctx, &cart_id).await?.ok_or_else(|| StoreError::CartTaken.into())
            }
            done => Ok(done?),
        }
    }

    async fn get(&self, _: &CallContext, id: OrderId) -> Result<Order, OrdersError> {
        Ok(self.db.read(move |conn| store::get(conn, id)).await?)
    }

    async fn list(
        &self,
        _: &CallContext,
        user_id: UserId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Page<Order>, OrdersError> {
        Ok(self.db.read(move |conn| store::list(conn, user_id, after, limit)).await?)
    }

    async fn history(
        &self,
        _: &CallContext,
        id: OrderId,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Page<HistoryEntry>, OrdersError> {
        Ok(self.db.read(move |conn| store::history(conn, id, after, limit)).await?)
    }

    async fn cancel(&self, ctx: &CallContext, id: OrderId) -> Result<Order, OrdersError> {
        let outbox = self.outbox.clone();
        let called_off = self.once(ctx, CANCEL, move |conn, origin, now| {
            tell(conn, &outbox, origin, id, Command::CallOff, now)?;
            store::get(conn, id)
        });
        Ok(called_off.await?)
    }

    async fn import(&self, _: &CallContext, batch: Vec<ImportOrder>) -> Result<Vec<Imported>, OrdersError> {
        Ok(self.db.write(move |conn| store::import(conn, &batch)).await?)
    }
}

/// Tells an order something; a confirmed one that is called off tells all who promised something for it.
fn tell(
    conn: &mut Conn,
    outbox: &Outbox,
    origin: &Origin,
    id: OrderId,
    command: Command,
    now: Timestamp,
) -> Result<(), StoreError> {
    if store::advance(conn, id, command, now)? == Some(OrderStatus::Cancelling) {
        outbox.publish(conn, origin, &OrderCancelled { order_id: id }, now)?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
