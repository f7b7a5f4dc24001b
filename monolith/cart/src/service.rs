//! The carts port over the store and over the ports of users and catalog.
//!
//! Invariant: other contexts are asked before the transaction begins, so a slow one never holds a cart.

use std::sync::Arc;

use async_trait::async_trait;
use contracts::cart::{CONTEXT, Cart, CartError, CartItem, Carts, PutItem};
use contracts::catalog::{Catalog, CatalogError};
use contracts::users::{Users, UsersError};
use contracts::{CallContext, CartId, Clock, ProductId, Timestamp, Unavailable, UserId};
use db::{Conn, Db, idempotency};
use uuid::Uuid;

use crate::store::{self, Put, StoreError};

const OPEN: &str = "cart.open";
const ADD: &str = "cart.add";
const ASSIGN: &str = "cart.assign";

/// The cart context on a database that holds [`SCHEMA`](crate::SCHEMA) and the idempotency keys.
#[derive(Clone)]
pub struct CartService {
    pub(crate) db: Db,
    pub(crate) clock: Arc<dyn Clock>,
    users: Arc<dyn Users>,
    catalog: Arc<dyn Catalog>,
}

impl CartService {
    /// The context on this database, asking these ports.
    pub fn new(db: Db, clock: Arc<dyn Clock>, users: Arc<dyn Users>, catalog: Arc<dyn Catalog>) -> Self {
        Self { db, clock, users, catalog }
    }

    /// The product as an item, at today's price.
    async fn priced(&self, ctx: &CallContext, item: PutItem) -> Result<CartItem, CartError> {
        let product = self.catalog.get(ctx, item.product_id).await.map_err(no_product)?;
        let PutItem { product_id, quantity } = item;
        Ok(CartItem { product_id, quantity, unit_price: product.details.price })
    }

    /// What came of the call that had this key before. Looked up before others are asked, so that a repeat does not depend
    /// on them.
    async fn replayed(&self, ctx: &CallContext, scope: &'static str) -> Result<Option<Cart>, CartError> {
        let Some(key) = ctx.idempotency.clone() else { return Ok(None) };
        let found = self.db.read(move |conn| idempotency::replay::<_, StoreError>(conn, scope, Some(&key)));
        Ok(found.await?)
    }

    /// Runs the command in a transaction that keeps the key with the result.
    async fn once<F>(&self, ctx: &CallContext, scope: &'static str, work: F) -> Result<Cart, CartError>
    where
        F: Fn(&mut Conn, Timestamp) -> Result<Cart, StoreError> + Clone + Send + 'static,
    {
        loop {
            let (key, now, work) = (ctx.idempotency.clone(), self.clock.now(), work.clone());
            let done = self
                .db
                .write(move |conn| idempotency::once(conn, scope, key.as_ref(), now, |conn| work(conn, now)));
            match done.await {
                // Whoever was faster has committed, so that the next turn sees it.
                Err(StoreError::Raced) => {}
                done => return Ok(done?),
            }
        }
    }

    async fn write<F>(&self, work: F) -> Result<Cart, CartError>
    where
        F: FnOnce(&mut Conn, Timestamp) -> Result<Cart, StoreError> + Send + 'static,
    {
        let now = self.clock.now();
        Ok(self.db.write(move |conn| work(conn, now)).await?)
    }
}

#[async_trait]
impl Carts for CartService {
    async fn open(&self, ctx: &CallContext, user_id: Option<UserId>) -> Result<Cart, CartError> {
        if let Some(cart) = self.replayed(ctx, OPEN).await? {
            return Ok(cart);
        }
        if let Some(user_id) = user_id {
            self.users.get(ctx, user_id).await.map_err(no_user)?;
        }
        self.once(ctx, OPEN, move |conn, now| {
            let id = CartId::from_random(Uuid::new_v4().as_u128());
            store::open(conn, &id, user_id, now)
        })
        .await
    }

    async fn get(&self, _: &CallContext, id: CartId) -> Result<Cart, CartError> {
        Ok(self.db.read(move |conn| store::get(conn, &id)).await?)
    }

    async fn add(
        &self,
        ctx: &CallContext,
        id: CartId,
        item: PutItem,
        expected: Option<i64>,
    ) -> Result<Cart, CartError> {
        if let Some(cart) = self.replayed(ctx, ADD).await? {
            return Ok(cart);
        }
        let item = self.priced(ctx, item).await?;
        self.once(ctx, ADD, move |conn, now| store::put(conn, &id, &item, Put::Added, expected, now)).await
    }

    async fn set(
        &self,
        ctx: &CallContext,
        id: CartId,
        item: PutItem,
        expected: Option<i64>,
    ) -> Result<Cart, CartError> {
        let item = self.priced(ctx, item).await?;
        self.write(move |conn, now| store::put(conn, &id, &item, Put::Set, expected, now)).await
    }

    async fn take_out(
        &self,
        _: &CallContext,
        id: CartId,
        product_id: ProductId,
        expected: Option<i64>,
    ) -> Result<Cart, CartError> {
        self.write(move |conn, now| store::take_out(conn, &id, product_id, expected, now)).await
    }

    async fn assign(&self, ctx: &CallContext, id: CartId, user_id: UserId) -> Result<Cart, CartError> {
        if let Some(cart) = self.replayed(ctx, ASSIGN).await? {
            return Ok(cart);
        }
        self.users.get(ctx, user_id).await.map_err(no_user)?;
        self.once(ctx, ASSIGN, move |conn, now| store::assign(conn, &id, user_id, now)).await
    }
}

/// Asking for a user has no effect, so nothing may have been done.
fn no_user(error: UsersError) -> CartError {
    match error {
        UsersError::NotFound { id } => CartError::NoSuchUser { id },
        UsersError::Unavailable(error) => Unavailable { maybe_done: false, ..error }.into(),
        other => unasked(contracts::users::CONTEXT, other.to_string()),
    }
}

/// Asking for a product has no effect either.
fn no_product(error: CatalogError) -> CartError {
    match error {
        CatalogError::NotFound { id } => CartError::NoSuchProduct { id },
        CatalogError::Unavailable(error) => Unavailable { maybe_done: false, ..error }.into(),
        other => unasked(contracts::catalog::CONTEXT, other.to_string()),
    }
}

/// An answer that the question does not have.
fn unasked(context: &str, answer: String) -> CartError {
    let reason = format!("it answered a read with `{answer}`");
    Unavailable { context: context.to_owned(), reason, maybe_done: false }.into()
}

impl From<StoreError> for CartError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Cart(error) => error,
            StoreError::Raced => {
                let reason = "the user's cart was changed at the same moment".to_owned();
                Unavailable { context: CONTEXT.to_owned(), reason, maybe_done: false }.into()
            }
            StoreError::Database(error) => error.unavailable(CONTEXT).into(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
