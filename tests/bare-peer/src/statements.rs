//! The statements, compiled once for each database: the parent module names its connection [`Conn`].
//!
//! Invariant: the monolith sends the same ones in the same order.

use std::collections::HashMap;

use anyhow::{Context, Result};
use diesel::prelude::*;
use jiff::Timestamp;

use super::Conn;
use crate::json::{CheckoutState, Money, Order, OrderBody, OrderLine, User};
use crate::tables::{
    banyan_outbox, banyan_sagas, catalog_products, orders_history, orders_lines, orders_orders, users_users,
};

/// An order whose user and prices are known.
pub(super) struct Priced {
    body: OrderBody,
    lines: Vec<OrderLine>,
    total: Money,
    ship_to: Option<crate::json::Address>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = users_users)]
struct UserRow {
    id: i64,
    name: String,
    email: String,
    phone: Option<String>,
    addresses: String,
    created_at: String,
    updated_at: String,
    #[expect(dead_code, reason = "the monolith reads it as well")]
    version: i64,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = catalog_products)]
#[expect(dead_code, reason = "the monolith reads all of a product")]
struct ProductRow {
    id: i64,
    sku: String,
    name: String,
    price_minor: i64,
    price_currency: String,
    created_at_ms: i64,
    updated_at_ms: i64,
    category_id: Option<i64>,
    version: i64,
}

pub(super) fn user(conn: &mut Conn, id: i64) -> Result<Option<User>> {
    let row = users_users::table.find(id).select(UserRow::as_select()).get_result(conn).optional()?;
    row.map(|row: UserRow| {
        Ok(User {
            id: row.id,
            name: row.name,
            email: row.email,
            phone: row.phone,
            addresses: serde_json::from_str(&row.addresses)?,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    })
    .transpose()
}

/// Asks for user and prices. Nothing where the user or a product is missing.
pub(super) fn priced(conn: &mut Conn, mut body: OrderBody) -> Result<Option<Priced>> {
    let Some(user) = user(conn, body.user_id)? else { return Ok(None) };
    let mut ids: Vec<i64> = body.lines.iter().map(|line| line.product_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let products: Vec<ProductRow> = catalog_products::table
        .filter(catalog_products::id.eq_any(&ids))
        .order(catalog_products::id)
        .select(ProductRow::as_select())
        .load(conn)?;
    let prices: HashMap<i64, Money> = products
        .into_iter()
        .map(|row| (row.id, Money { minor: row.price_minor, currency: row.price_currency }))
        .collect();
    let line = |line: &crate::json::LineBody| {
        let unit_price = prices.get(&line.product_id)?.clone();
        Some(OrderLine { product_id: line.product_id, quantity: line.quantity, unit_price })
    };
    let Some(lines) = body.lines.iter().map(line).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let minor = lines.iter().map(|line| line.unit_price.minor * i64::from(line.quantity)).sum();
    let currency = lines.first().context("an order without lines")?.unit_price.currency.clone();
    let ship_to = body.ship_to.take().or_else(|| user.addresses.into_iter().next());
    Ok(Some(Priced { body, lines, total: Money { minor, currency }, ship_to }))
}

/// Writes the order; belongs inside a transaction.
pub(super) fn place(conn: &mut Conn, priced: Priced) -> Result<Order> {
    let Priced { body, lines, total, ship_to } = priced;
    let now = Timestamp::now();
    let now_ms = now.as_millisecond();
    let method = body.payment_method.as_deref().unwrap_or("account");
    let kind = if method == "account" { "account" } else { "card" };
    let ship_to_text = ship_to.as_ref().map(serde_json::to_string).transpose()?;
    let id: i64 = diesel::insert_into(orders_orders::table)
        .values((
            orders_orders::user_id.eq(body.user_id),
            orders_orders::reference.eq(None::<&str>),
            orders_orders::kind.eq("sale"),
            orders_orders::status.eq("pending"),
            orders_orders::currency.eq(&total.currency),
            orders_orders::total_minor.eq(total.minor),
            orders_orders::placed_at_ms.eq(now_ms),
            orders_orders::confirmed_at_ms.eq(None::<i64>),
            orders_orders::payment_method.eq(Some(kind)),
            orders_orders::ship_to.eq(ship_to_text),
            orders_orders::cart_id.eq(None::<&str>),
        ))
        .returning(orders_orders::id)
        .get_result(conn)?;
    for (position, line) in (0_i64..).zip(&lines) {
        diesel::insert_into(orders_lines::table)
            .values((
                orders_lines::order_id.eq(id),
                orders_lines::position.eq(position),
                orders_lines::product_id.eq(line.product_id),
                orders_lines::quantity.eq(i64::from(line.quantity)),
                orders_lines::unit_price_minor.eq(line.unit_price.minor),
            ))
            .execute(conn)?;
    }
    diesel::insert_into(orders_history::table)
        .values((
            orders_history::order_id.eq(id),
            orders_history::position.eq(1_i64),
            orders_history::status.eq("pending"),
            orders_history::at_ms.eq(now_ms),
            orders_history::note.eq(None::<&str>),
        ))
        .execute(conn)?;
    let state =
        serde_json::to_string(&CheckoutState { order_id: id, payment_method: method, refusal: None })?;
    diesel::insert_into(banyan_sagas::table)
        .values((
            banyan_sagas::kind.eq("checkout"),
            banyan_sagas::key.eq(id.to_string()),
            banyan_sagas::phase.eq("running"),
            banyan_sagas::position.eq(1),
            banyan_sagas::state.eq(state),
            banyan_sagas::due_at_ms.eq(now_ms),
            banyan_sagas::request_id.eq("0123456789abcdef0123456789abcdef"),
            banyan_sagas::traceparent.eq(Some("00-0123456789abcdef0123456789abcdef-0123456789abcdef-00")),
            banyan_sagas::created_at_ms.eq(now_ms),
            banyan_sagas::updated_at_ms.eq(now_ms),
        ))
        .execute(conn)?;
    Ok(Order {
        id,
        user_id: body.user_id,
        reference: None,
        kind: "sale",
        status: "pending",
        lines,
        total,
        placed_at: format!("{now:.3}"),
        confirmed_at: None,
        cancelled_at: None,
        rejected_because: None,
        payment_method: Some(kind),
        ship_to,
        cart_id: None,
        cancellation: None,
    })
}

pub(super) fn update_events(conn: &mut Conn) -> Result<usize> {
    let ids: Vec<i64> = banyan_outbox::table.select(banyan_outbox::id).order(banyan_outbox::id).load(conn)?;
    for id in &ids {
        diesel::update(banyan_outbox::table.find(id)).set(banyan_outbox::attempts.eq(1)).execute(conn)?;
    }
    Ok(ids.len())
}
