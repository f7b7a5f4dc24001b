//! Errors under a mixed load over all contexts, and the memory that the monolith holds after it.
//!
//! Invariant: a visit goes through every context, and whatever is not answered as it should be is an error; so is a checkout
//! that does not end, and an event that could not be taken.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::http::Ask;
use harness::{Binaries, databases, wait};
use serde_json::{Value, json};

use super::clients::{Client, Wares, drive, post, put};
use super::shop::{Backend, Shop};
use super::{Measured, ticks};

const CONNECTIONS: usize = 64;
const DURATION: Duration = Duration::from_secs(60);
const MIB: f64 = 1024.0;
const MEMORY_MIB: f64 = 80.0;

pub(super) fn errors_and_memory(binaries: &Binaries) -> Result<Vec<Measured>> {
    let shop = Shop::stocked(binaries, Backend::Sqlite, 20_000)?;
    let provider = shop.provider()?;
    let monolith = shop.monolith(&[("BANYAN_PAYMENTS__PROVIDER__URL", provider.url()?)])?;
    let url = monolith.url()?;
    let wares = Wares::read(url, 20_000, 2_000)?;
    let end = Instant::now() + DURATION;
    let clients = drive(CONNECTIONS, |number| soak(url.to_owned(), wares.clone(), number, end))?;
    let resident_kib = ticks::resident_memory_kib(monolith.pid()).context("the monolith is gone")?;
    let mut faults: Vec<String> = clients.iter().flat_map(|client| client.faults.clone()).collect();
    let answered: u64 = clients.iter().map(|client| client.answered).sum();
    let slowest = clients.iter().map(|client| client.slowest).max().unwrap_or_default();
    faults.extend(unfinished(&shop)?);
    faults.iter().take(5).for_each(|fault| eprintln!("soak: {fault}"));
    let peak = ticks::peak_memory_kib(monolith.pid()).unwrap_or_default() as f64 / MIB;
    eprintln!(
        "soak: {answered} requests, {} errors, slowest {slowest:.0?}; at most {peak:.1} MiB resident",
        faults.len()
    );
    let errors = Measured::at_most(faults.len() as f64, 0.0);
    Ok(vec![errors, Measured::at_most(resident_kib as f64 / MIB, MEMORY_MIB)])
}

/// One visit after the other, each of another user.
async fn soak(url: String, wares: Wares, number: usize, end: Instant) -> Client {
    let mut client = Client::of(&url);
    let mut earlier = Vec::new();
    let mut visit = number;
    while Instant::now() < end {
        look_around(&mut client, &wares, visit).await;
        keep_address(&mut client, &wares, visit).await;
        let bought = buy(&mut client, &wares, visit).await;
        if let Some(order) = bought {
            follow(&mut client, &order).await;
            earlier.push(order);
        }
        // By now the checkout has ended, or is under way: both can be called off.
        if visit.is_multiple_of(3)
            && let Some(order) = earlier.pop()
        {
            client.ask(post(format!("/api/v1/orders/{order}/cancel")), &[200, 409]).await;
            client.ask(Ask::get(format!("/api/v1/orders/{order}/history")), &[200]).await;
        }
        visit += CONNECTIONS;
    }
    client
}

async fn look_around(client: &mut Client, wares: &Wares, visit: usize) {
    let product = wares.product(visit);
    for target in [
        format!("/api/v1/users/{}", wares.user(visit)),
        format!("/api/v1/products?q={}&limit=20", wares.word(visit)),
        format!("/api/v1/products/{product}"),
        format!("/api/v1/products/{product}/prices"),
        format!("/api/v1/products/{product}/stock"),
        format!("/api/v1/products?ids={product},{}", wares.product(visit + 1)),
        "/api/v1/categories".to_owned(),
        "/api/v1/warehouses".to_owned(),
        format!("/api/v1/orders?user_id={}&limit=20", wares.user(visit)),
    ] {
        client.ask(Ask::get(target), &[200]).await;
    }
}

/// Replaces a user's details, if nobody has done so since they were read.
async fn keep_address(client: &mut Client, wares: &Wares, visit: usize) {
    let target = format!("/api/v1/users/{}", wares.user(visit));
    let Some(answer) = client.ask(Ask::get(target.clone()), &[200]).await else { return };
    let (Ok(user), Some(tag)) = (answer.json(), answer.header("etag")) else {
        client.faults.push(format!("{target} has no entity tag or no JSON"));
        return;
    };
    let details = json!({
        "name": user.get("name"), "email": user.get("email"), "phone": "+44 20 7946 0000",
        "addresses": [{ "label": "home", "street": "1 High Street", "city": "Ely", "postcode": "CB7 4DL", "country": "UK" }],
    });
    client.ask(put(target).json(&details).header("if-match", tag), &[200]).await;
}

/// Through a cart and by card, or at once and on account.
async fn buy(client: &mut Client, wares: &Wares, visit: usize) -> Option<i64> {
    if visit.is_multiple_of(4) {
        let order = post("/api/v1/orders").json(&wares.order(visit, &Value::Null));
        let order = order.header("idempotency-key", format!("soak-{visit}"));
        return client.ask_for("id", order, 201).await?.as_i64();
    }
    let open = post("/api/v1/carts").json(&json!({ "user_id": wares.user(visit) }));
    let cart = client.ask_for("id", open, 201).await?;
    let cart = format!("/api/v1/carts/{}", cart.as_str()?);
    for number in [visit, visit + 17] {
        let item = json!({ "product_id": wares.product(number), "quantity": 1 });
        client.ask(post(format!("{cart}/items")).json(&item), &[200]).await?;
    }
    let item = format!("{cart}/items/{}", wares.product(visit));
    client.ask(put(item).json(&json!({ "quantity": 2 })), &[200]).await?;
    client.ask(Ask::get(cart.clone()), &[200]).await?;
    let check_out = post(format!("{cart}/checkout")).json(&json!({ "payment_method": "pm_card" }));
    client.ask_for("id", check_out, 201).await?.as_i64()
}

/// What the checkout has not come to yet is not there.
async fn follow(client: &mut Client, order: &i64) {
    client.ask(Ask::get(format!("/api/v1/orders/{order}")), &[200]).await;
    for part in ["payment", "reservation", "shipment"] {
        client.ask(Ask::get(format!("/api/v1/orders/{order}/{part}")), &[200, 404]).await;
    }
}

/// Waits until every checkout has ended and every event was taken. What stays behind, in words.
fn unfinished(shop: &Shop) -> Result<Vec<String>> {
    let count = |sql: &str| databases::number(&shop.file(), sql);
    let running = "SELECT count(*) FROM banyan_sagas WHERE phase IN ('running', 'compensating')";
    let waiting = "SELECT count(*) FROM banyan_outbox WHERE dead_at_ms IS NULL";
    let ended = wait::until("checkouts and events come to their end", DURATION * 2, || {
        Ok((count(running)? == 0 && count(waiting)? == 0).then_some(()))
    });
    let dead = count("SELECT count(*) FROM banyan_outbox WHERE dead_at_ms IS NOT NULL")?;
    let dead = (dead > 0).then(|| format!("{dead} events are dead letters"));
    Ok(ended.err().map(|error| format!("{error:#}")).into_iter().chain(dead).collect())
}
