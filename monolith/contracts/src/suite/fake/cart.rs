//! A cart context in memory.
//!
//! Invariant: shows every fact of the port's suite, on whatever users and catalog it is given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{EPOCH, Keys};
use crate::cart::{Cart, CartError, CartItem, CartStatus, Carts, ITEMS_MAX, PutItem, QUANTITY_MAX};
use crate::catalog::{Catalog, CatalogError};
use crate::users::{Users, UsersError};
use crate::{CallContext, CartId, OrderId, ProductId, Unavailable, UserId};

/// A cart context in memory.
pub struct FakeCarts {
    state: Mutex<State>,
    keys: Keys,
    users: Arc<dyn Users>,
    catalog: Arc<dyn Catalog>,
}

#[derive(Debug, Default)]
struct State {
    carts: BTreeMap<CartId, Cart>,
    merged_into: BTreeMap<CartId, CartId>,
    ids: u128,
}

impl FakeCarts {
    /// No carts yet.
    pub fn new(users: Arc<dyn Users>, catalog: Arc<dyn Catalog>) -> Self {
        Self { state: Mutex::default(), keys: Keys::default(), users, catalog }
    }

    /// The cart became this order.
    pub fn check_out(&self, id: &CartId, order_id: OrderId) -> Result<Cart, CartError> {
        self.state().change(id, None, |cart| {
            cart.status = CartStatus::CheckedOut;
            cart.order_id = Some(order_id);
            Ok(())
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn priced(&self, ctx: &CallContext, item: PutItem) -> Result<CartItem, CartError> {
        let product = self.catalog.get(ctx, item.product_id).await.map_err(|error| match error {
            CatalogError::NotFound { id } => CartError::NoSuchProduct { id },
            other => unasked(crate::catalog::CONTEXT, other.to_string()),
        })?;
        let PutItem { product_id, quantity } = item;
        Ok(CartItem { product_id, quantity, unit_price: product.details.price })
    }

    async fn check_user(&self, ctx: &CallContext, id: UserId) -> Result<(), CartError> {
        match self.users.get(ctx, id).await {
            Ok(_) => Ok(()),
            Err(UsersError::NotFound { id }) => Err(CartError::NoSuchUser { id }),
            Err(other) => Err(unasked(crate::users::CONTEXT, other.to_string())),
        }
    }
}

impl State {
    fn get(&self, id: &CartId) -> Result<Cart, CartError> {
        self.carts.get(id).cloned().ok_or_else(|| CartError::NotFound { id: id.clone() })
    }

    fn open_of(&self, user_id: UserId) -> Option<Cart> {
        let theirs = |cart: &&Cart| cart.user_id == Some(user_id) && cart.status == CartStatus::Open;
        self.carts.values().find(theirs).cloned()
    }

    fn open(&mut self, user_id: Option<UserId>) -> Cart {
        if let Some(cart) = user_id.and_then(|user_id| self.open_of(user_id)) {
            return cart;
        }
        self.ids += 1;
        let cart = Cart {
            id: CartId::from_random(self.ids),
            user_id,
            status: CartStatus::Open,
            order_id: None,
            items: Vec::new(),
            created_at: EPOCH,
            updated_at: EPOCH,
            version: 1,
        };
        self.carts.insert(cart.id.clone(), cart.clone());
        cart
    }

    fn change(
        &mut self,
        id: &CartId,
        expected: Option<i64>,
        work: impl FnOnce(&mut Cart) -> Result<(), CartError>,
    ) -> Result<Cart, CartError> {
        let before = self.get(id)?;
        if before.status != CartStatus::Open {
            return Err(CartError::Closed { id: id.clone() });
        }
        if expected.is_some_and(|expected| expected != before.version) {
            return Err(CartError::Changed { id: id.clone(), version: before.version });
        }
        let mut cart = before.clone();
        work(&mut cart)?;
        cart.version += 1;
        self.carts.insert(id.clone(), cart.clone());
        Ok(cart)
    }

    fn assign(&mut self, id: &CartId, user_id: UserId) -> Result<Cart, CartError> {
        let cart = self.get(id)?;
        match cart.user_id {
            Some(other) if other != user_id => return Err(CartError::OtherUser { id: id.clone() }),
            Some(_) => return self.get(self.merged_into.get(id).unwrap_or(id)),
            None => {}
        }
        let target = self.open_of(user_id);
        self.change(id, None, |cart| {
            cart.user_id = Some(user_id);
            if target.is_some() {
                cart.status = CartStatus::Merged;
                cart.items.clear();
            }
            Ok(())
        })?;
        let Some(target) = target else { return self.get(id) };
        self.merged_into.insert(id.clone(), target.id.clone());
        if cart.items.is_empty() {
            return Ok(target);
        }
        let merged = self.change(&target.id, None, |target| {
            cart.items.iter().try_for_each(|item| put(target, item.clone(), |before, more| before + more))
        });
        if merged.is_err() {
            self.merged_into.remove(id);
            self.carts.insert(id.clone(), cart);
        }
        merged
    }
}

#[async_trait]
impl Carts for FakeCarts {
    async fn open(&self, ctx: &CallContext, user_id: Option<UserId>) -> Result<Cart, CartError> {
        if let Some(cart) = self.keys.found(ctx, "open")? {
            return Ok(cart);
        }
        if let Some(user_id) = user_id {
            self.check_user(ctx, user_id).await?;
        }
        let cart = self.state().open(user_id);
        Ok(self.keys.keep(ctx, "open", cart))
    }

    async fn get(&self, _: &CallContext, id: CartId) -> Result<Cart, CartError> {
        self.state().get(&id)
    }

    async fn add(
        &self,
        ctx: &CallContext,
        id: CartId,
        item: PutItem,
        expected: Option<i64>,
    ) -> Result<Cart, CartError> {
        if let Some(cart) = self.keys.found(ctx, "add")? {
            return Ok(cart);
        }
        let item = self.priced(ctx, item).await?;
        let added = |cart: &mut Cart| put(cart, item, |before, more| before + more);
        let cart = self.state().change(&id, expected, added)?;
        Ok(self.keys.keep(ctx, "add", cart))
    }

    async fn set(
        &self,
        ctx: &CallContext,
        id: CartId,
        item: PutItem,
        expected: Option<i64>,
    ) -> Result<Cart, CartError> {
        let item = self.priced(ctx, item).await?;
        self.state().change(&id, expected, |cart| put(cart, item, |_, now| now))
    }

    async fn take_out(
        &self,
        _: &CallContext,
        id: CartId,
        product_id: ProductId,
        expected: Option<i64>,
    ) -> Result<Cart, CartError> {
        let mut state = self.state();
        let before = state.get(&id)?;
        let after = state.change(&id, expected, |cart| {
            cart.items.retain(|item| item.product_id != product_id);
            Ok(())
        })?;
        if after.items.len() == before.items.len() {
            state.carts.insert(id, before.clone());
            return Ok(before);
        }
        Ok(after)
    }

    async fn assign(&self, ctx: &CallContext, id: CartId, user_id: UserId) -> Result<Cart, CartError> {
        if let Some(cart) = self.keys.found(ctx, "assign")? {
            return Ok(cart);
        }
        self.check_user(ctx, user_id).await?;
        let cart = self.state().assign(&id, user_id)?;
        Ok(self.keys.keep(ctx, "assign", cart))
    }
}

fn put(cart: &mut Cart, item: CartItem, units: impl Fn(u32, u32) -> u32) -> Result<(), CartError> {
    match cart.items.binary_search_by_key(&item.product_id, |item| item.product_id) {
        Ok(at) => {
            if let Some(there) = cart.items.get_mut(at) {
                there.quantity = units(there.quantity, item.quantity);
                there.unit_price = item.unit_price;
            }
        }
        Err(at) => cart.items.insert(at, item),
    }
    let is_too_much = |item: &CartItem| item.quantity > QUANTITY_MAX;
    match cart.items.len() > ITEMS_MAX || cart.items.iter().any(is_too_much) {
        true => Err(CartError::TooFull),
        false => Ok(()),
    }
}

fn unasked(context: &str, reason: String) -> CartError {
    Unavailable { context: context.to_owned(), reason, maybe_done: false }.into()
}
