//! One worker of the load: one connection, its own keys, one request at a time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Result;
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::book::{Book, KeyEntry};
use super::keys::{Key, Verdict};
use super::random::Random;
use super::stats::Stats;
use super::{LoadSettings, lock, people};
use crate::http::{Answer, Ask, Connection};

/// What all workers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: LoadSettings,
    pub(super) stop: AtomicBool,
    pub(super) answered: AtomicU64,
    products: Vec<Value>,
    cursors: OnceLock<Vec<String>>,
    stats: Mutex<Stats>,
}

impl Shared {
    pub(super) fn new(settings: LoadSettings, products: Vec<Value>) -> Self {
        Self {
            settings,
            stop: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            products,
            cursors: OnceLock::new(),
            stats: Mutex::default(),
        }
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, Stats> {
        lock(&self.stats)
    }

    pub(super) fn remember_cursors(&self, cursors: Vec<String>) {
        // Called once, before any worker runs.
        let _ = self.cursors.set(cursors);
    }
}

/// One worker, with the book of its own keys.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    number: u32,
    connection: Connection,
    random: Random,
    keys: Vec<Key>,
    orders: Vec<Value>,
    free_emails: Vec<String>,
    marks: u64,
    acknowledged: u64,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, number: u32) -> Self {
        let connection = Connection::to(&shared.settings.base_url);
        let random = Random::new(shared.settings.seed.wrapping_mul(1_000).wrapping_add(u64::from(number)));
        Self {
            shared,
            number,
            connection,
            random,
            keys: Vec::new(),
            orders: Vec::new(),
            free_emails: Vec::new(),
            marks: 0,
            acknowledged: 0,
        }
    }

    /// Makes a key this worker's own.
    pub(super) fn take(&mut self, key: Key) {
        self.keys.push(key);
    }

    /// Sends requests at its share of the rate until told to stop.
    pub(super) async fn run(mut self) -> Self {
        let settings = &self.shared.settings;
        let every = Duration::from_secs(1) * settings.workers / settings.rate.max(1);
        let mut pace = tokio::time::interval(every.max(Duration::from_micros(1)));
        // After a pause the worker goes on at its rate instead of sending all that it missed at once.
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.shared.stop.load(Ordering::Relaxed) {
            pace.tick().await;
            if let Err(error) = self.step().await {
                self.fault(format!("an answer that makes no sense: {error:#}"));
            }
        }
        self
    }

    /// Hands its keys over for the final check.
    pub(super) fn write_into(self, book: &mut Book) {
        book.acknowledged += self.acknowledged;
        book.orders.extend(self.orders);
        book.users.extend(self.keys.into_iter().map(|key| {
            let (id, state, doubts) = key.into_parts();
            KeyEntry { id, state, doubts }
        }));
    }

    async fn step(&mut self) -> Result<()> {
        match self.random.below(100) {
            0..52 => self.read_user().await,
            52..58 => self.list_users().await,
            58..63 => self.read_product().await,
            63..65 => self.search_products().await,
            65..69 => self.read_order().await,
            69..70 => self.cancel_order().await,
            70..83 => self.update_user().await,
            83..89 => self.create_user().await,
            89..94 => self.delete_user().await,
            94..97 => self.place_order().await,
            _ => self.buy_by_cart().await,
        }
    }

    async fn read_user(&mut self) -> Result<()> {
        let index = self.random.below(self.keys.len());
        let Some(id) = self.keys.get(index).map(|key| key.id) else { return self.create_user().await };
        let ask = Ask::get(format!("/api/v1/users/{id}"));
        let Some(answer) = self.send(ask, &[200, 404]).await else { return Ok(()) };
        let shown = (answer.status == 200).then(|| answer.json()).transpose()?;
        self.judge(index, shown.as_ref(), "read", &answer);
        Ok(())
    }

    /// A listing shows other workers' users too; only its own keys between the first and last item are judged.
    async fn list_users(&mut self) -> Result<()> {
        let cursors = self.shared.cursors.get().map(Vec::as_slice).unwrap_or_default();
        let suffix = self.random.pick(cursors).map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let ask =
            Ask::get(format!("/api/v1/users?limit=50{suffix}")).header("x-user-id", self.number.to_string());
        let Some(answer) = self.send(ask, &[200]).await else { return Ok(()) };
        let page = answer.json()?;
        let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let ids: Vec<i64> = items.iter().filter_map(|item| item.get("id").and_then(Value::as_i64)).collect();
        if ids.len() != items.len() || !ids.is_sorted() {
            self.fault(format!("a listing that is not in ascending order of id: {ids:?}"));
        }
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(()) };
        let own: Vec<(usize, i64)> = self.keys.iter().map(|key| key.id).enumerate().collect();
        for (index, id) in own.into_iter().filter(|(_, id)| (first..=last).contains(&id)) {
            let shown = items.iter().find(|item| item.get("id").and_then(Value::as_i64) == Some(id));
            self.judge(index, shown, "listing", &answer);
        }
        Ok(())
    }

    async fn read_product(&mut self) -> Result<()> {
        let Some(product) = self.random.pick(&self.shared.products).cloned() else { return Ok(()) };
        let id = product.get("id").and_then(Value::as_i64).unwrap_or_default();
        let Some(answer) = self.send(Ask::get(format!("/api/v1/products/{id}")), &[200]).await else {
            return Ok(());
        };
        if answer.json()? != product {
            self.wrong(format!("product {id} shows {}", answer.text()));
        }
        Ok(())
    }

    async fn read_order(&mut self) -> Result<()> {
        let Some(order) = self.random.pick(&self.orders).cloned() else { return self.read_product().await };
        let id = order.get("id").and_then(Value::as_i64).unwrap_or_default();
        let Some(answer) = self.send(Ask::get(format!("/api/v1/orders/{id}")), &[200]).await else {
            return Ok(());
        };
        // Where it stands changes by itself; what was ordered does not.
        let shown = answer.json()?;
        if ["id", "user_id", "lines", "total", "placed_at"]
            .iter()
            .any(|field| shown.get(field) != order.get(field))
        {
            self.wrong(format!("order {id} shows {}", answer.text()));
        }
        Ok(())
    }

    async fn create_user(&mut self) -> Result<()> {
        // An address that was given up comes first: whoever replays writes out of order would trip over it.
        let mark = self.next_mark();
        let email = self.free_emails.pop().unwrap_or_else(|| format!("{mark}@load.example.com"));
        let details = people::details(&mut self.random, &mark, &email);
        let ask = Ask::new(Method::POST, "/api/v1/users").json(&details);
        let Some(answer) = self.send(ask, &[201]).await else { return Ok(()) };
        self.acknowledged += 1;
        self.keys.push(Key::created(answer.json()?)?);
        Ok(())
    }

    async fn update_user(&mut self) -> Result<()> {
        let index = self.random.below(self.keys.len());
        let Some(key) = self.keys.get(index).filter(|key| key.exists()) else {
            return self.read_user().await;
        };
        let (id, old_email) = (key.id, key.email().unwrap_or_default().to_owned());
        let mark = self.next_mark();
        let new_email = match self.random.below(4) {
            0 => self.free_emails.pop().unwrap_or_else(|| format!("{mark}@load.example.com")),
            _ => old_email.clone(),
        };
        let details = people::details(&mut self.random, &mark, &new_email);
        let ask = Ask::new(Method::PUT, format!("/api/v1/users/{id}")).json(&details);
        let answer = self.send(ask, &[200]).await;
        let Some(key) = self.keys.get_mut(index) else { return Ok(()) };
        let Some(answer) = answer else {
            key.doubt(Some(details));
            return Ok(());
        };
        key.acknowledge(Some(answer.json()?));
        self.acknowledged += 1;
        if old_email != new_email {
            self.free_emails.push(old_email);
        }
        Ok(())
    }

    async fn delete_user(&mut self) -> Result<()> {
        let index = self.random.below(self.keys.len());
        let Some(key) = self.keys.get(index).filter(|key| key.exists()) else {
            return self.read_user().await;
        };
        let (id, email) = (key.id, key.email().unwrap_or_default().to_owned());
        let answer = self.send(Ask::new(Method::DELETE, format!("/api/v1/users/{id}")), &[204]).await;
        let Some(key) = self.keys.get_mut(index) else { return Ok(()) };
        if answer.is_none() {
            key.doubt(None);
            return Ok(());
        }
        key.acknowledge(None);
        self.acknowledged += 1;
        self.free_emails.push(email);
        Ok(())
    }

    async fn place_order(&mut self) -> Result<()> {
        let index = self.random.below(self.keys.len());
        let Some(key) = self.keys.get(index).filter(|key| key.exists()) else {
            return self.read_user().await;
        };
        let user_id = key.id;
        let count = 1 + self.random.below(3);
        let mut lines: Vec<Value> = Vec::new();
        for _ in 0..count {
            let Some(product) = self.random.pick(&self.shared.products) else { break };
            lines.push(json!({ "product_id": product.get("id"), "quantity": 1 + self.marks % 5 }));
        }
        let payment_method = if self.marks.is_multiple_of(2) { "pm_ok" } else { "account" };
        let ask = Ask::new(Method::POST, "/api/v1/orders")
            .json(&json!({ "user_id": user_id, "lines": lines, "payment_method": payment_method }));
        let Some(answer) = self.send(ask, &[201]).await else { return Ok(()) };
        self.acknowledged += 1;
        self.orders.push(answer.json()?);
        Ok(())
    }

    /// A product is found by the first word of its name.
    async fn search_products(&mut self) -> Result<()> {
        let Some(product) = self.random.pick(&self.shared.products).cloned() else { return Ok(()) };
        let name = product.get("name").and_then(Value::as_str).unwrap_or_default();
        let word: String = name.chars().take_while(char::is_ascii_alphanumeric).collect();
        let ask = Ask::get(format!("/api/v1/products?limit=200&q={word}"));
        let Some(answer) = self.send(ask, &[200]).await else { return Ok(()) };
        let page = answer.json()?;
        let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let is_whole = page.get("next").is_none_or(Value::is_null);
        if !word.is_empty() && is_whole && !items.contains(&product) {
            self.wrong(format!("a search for {word} does not find {product}"));
        }
        Ok(())
    }

    async fn cancel_order(&mut self) -> Result<()> {
        let Some(order) = self.random.pick(&self.orders).cloned() else { return self.read_product().await };
        let id = order.get("id").and_then(Value::as_i64).unwrap_or_default();
        // 409: it was rejected in the meantime.
        self.send(Ask::new(Method::POST, format!("/api/v1/orders/{id}/cancel")), &[200, 409]).await;
        Ok(())
    }

    async fn buy_by_cart(&mut self) -> Result<()> {
        let index = self.random.below(self.keys.len());
        let Some(key) = self.keys.get(index).filter(|key| key.exists()) else {
            return self.read_user().await;
        };
        let open = Ask::new(Method::POST, "/api/v1/carts").json(&json!({ "user_id": key.id }));
        let Some(answer) = self.send(open, &[201]).await else { return Ok(()) };
        let cart = answer.json()?;
        let cart = format!("/api/v1/carts/{}", cart.get("id").and_then(Value::as_str).unwrap_or_default());
        let Some(product) = self.random.pick(&self.shared.products) else { return Ok(()) };
        let item = json!({ "product_id": product.get("id"), "quantity": 1 });
        let add = Ask::new(Method::POST, format!("{cart}/items")).json(&item);
        // 409: the cart became an order a moment ago, and has not heard of it.
        let Some(added) = self.send(add, &[200, 409]).await else { return Ok(()) };
        if added.status == 409 {
            return Ok(());
        }
        let pay = json!({ "payment_method": "pm_ok" });
        let Some(answer) =
            self.send(Ask::new(Method::POST, format!("{cart}/checkout")).json(&pay), &[201]).await
        else {
            return Ok(());
        };
        self.acknowledged += 1;
        self.orders.push(answer.json()?);
        Ok(())
    }

    /// Sends a request and counts it. Nothing comes back if the answer was none of those that are due.
    async fn send(&mut self, ask: Ask, due: &[u16]) -> Option<Answer> {
        let (line, writes) = (format!("{} {}", ask.method, ask.target), ask.method != Method::GET);
        let started = Instant::now();
        let outcome = self.connection.send(ask).await;
        let took = started.elapsed();
        self.shared.answered.fetch_add(1, Ordering::Relaxed);
        let mut stats = self.shared.stats();
        stats.requests += 1;
        stats.writes += u64::from(writes);
        if writes {
            stats.write_time.record(took)
        } else {
            stats.read_time.record(took)
        }
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => {
                stats.failures += 1;
                stats.sample(format!("{line}: {error:#} after {} ms", took.as_millis()));
                return None;
            }
        };
        if let Some(side) = answer.header("banyan-side") {
            *stats.sides.entry(side.to_owned()).or_default() += 1;
        }
        stats.fallbacks += u64::from(answer.header("banyan-fallback").is_some());
        if due.contains(&answer.status) {
            return Some(answer);
        }
        stats.failures += 1;
        stats.sample(format!("{line}: {} after {} ms: {}", answer.status, took.as_millis(), answer.text()));
        None
    }

    fn judge(&self, index: usize, shown: Option<&Value>, how: &str, answer: &Answer) {
        let Some(key) = self.keys.get(index) else { return };
        let verdict = key.judge(shown);
        if verdict == Verdict::Fresh {
            return;
        }
        let side = answer.header("banyan-side").unwrap_or("unknown side");
        let text = shown.map_or("no such user".to_owned(), Value::to_string);
        let mut stats = self.shared.stats();
        match verdict {
            Verdict::Stale => {
                stats.stale += 1;
                *stats.stale_on.entry(side.to_owned()).or_default() += 1;
            }
            _ => stats.wrong += 1,
        }
        stats.sample(format!("{verdict:?} {how} of user {} ({side}): {text}", key.id));
    }

    fn wrong(&self, text: String) {
        let mut stats = self.shared.stats();
        stats.wrong += 1;
        stats.sample(text);
    }

    fn fault(&self, text: String) {
        let mut stats = self.shared.stats();
        stats.failures += 1;
        stats.sample(text);
    }

    fn next_mark(&mut self) -> String {
        self.marks += 1;
        format!("s{}w{}n{}", self.shared.settings.seed, self.number, self.marks)
    }
}
