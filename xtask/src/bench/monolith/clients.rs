//! Clients of a shop, each with one kept connection, all on one thread beside the system under load.
//!
//! Invariant: a client has one request in flight, and nothing is sent twice unless the bar says so.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::http::{self, Answer, Ask, Connection};
use hyper::Method;
use serde_json::{Value, json};

/// Runs that many clients to their end.
pub(super) fn drive<T, F>(count: usize, client: impl Fn(usize) -> F) -> Result<Vec<T>>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tasks: Vec<_> = (0..count).map(|number| tokio::spawn(client(number))).collect();
        let mut ended = Vec::new();
        for task in tasks {
            ended.push(task.await.context("a client panicked")?);
        }
        Ok(ended)
    })
}

/// What a client needs to know of a shop.
#[derive(Debug, Clone)]
pub(super) struct Wares {
    pub(super) users: Vec<i64>,
    pub(super) products: Vec<i64>,
    /// Words that searches find.
    pub(super) words: Vec<String>,
}

impl Wares {
    /// The first users and products of a shop.
    pub(super) fn read(url: &str, users: usize, products: usize) -> Result<Self> {
        let (users, products) =
            (items(url, "/api/v1/users", users)?, items(url, "/api/v1/products", products)?);
        ensure!(!users.is_empty() && !products.is_empty(), "the shop has no users or no products");
        let names = products.iter().filter_map(|product| product.get("name").and_then(Value::as_str));
        let words = names.filter_map(|name| {
            name.split(' ').find(|word| word.len() > 3 && word.bytes().all(|byte| byte.is_ascii_alphabetic()))
        });
        let words = words.map(str::to_owned).collect();
        Ok(Self { words, users: ids(&users)?, products: ids(&products)? })
    }

    pub(super) fn user(&self, number: usize) -> i64 {
        pick(&self.users, number).copied().unwrap_or_default()
    }

    pub(super) fn product(&self, number: usize) -> i64 {
        pick(&self.products, number).copied().unwrap_or_default()
    }

    pub(super) fn word(&self, number: usize) -> &str {
        pick(&self.words, number).map_or("", String::as_str)
    }

    /// An order of two lines, to that address; to the user's own where it is null.
    pub(super) fn order(&self, number: usize, ship_to: &Value) -> Value {
        let line = |number| json!({ "product_id": self.product(number), "quantity": 1 });
        let lines = [line(number), line(number.wrapping_mul(31) + 7)];
        json!({ "user_id": self.user(number), "lines": lines, "ship_to": ship_to })
    }
}

/// One client, and what it was answered.
#[derive(Debug)]
pub(super) struct Client {
    connection: Connection,
    pub(super) answered: u64,
    /// Each in words.
    pub(super) faults: Vec<String>,
    pub(super) slowest: Duration,
}

impl Client {
    pub(super) fn of(url: &str) -> Self {
        Self { connection: Connection::to(url), answered: 0, faults: Vec::new(), slowest: Duration::ZERO }
    }

    /// Sends a request, and returns the answer if it has one of these statuses. Anything else is a fault.
    pub(super) async fn ask(&mut self, ask: Ask, statuses: &[u16]) -> Option<Answer> {
        let line = format!("{} {}", ask.method, ask.target);
        let begun = Instant::now();
        let answer = self.connection.send(ask).await;
        self.slowest = self.slowest.max(begun.elapsed());
        self.answered += 1;
        match answer {
            Ok(answer) if statuses.contains(&answer.status) => return Some(answer),
            Ok(answer) => {
                self.faults.push(format!("{line} was answered {}: {}", answer.status, answer.text()))
            }
            Err(error) => self.faults.push(format!("{line}: {error:#}")),
        }
        None
    }

    /// The value under that name in the answer to a request.
    pub(super) async fn ask_for(&mut self, name: &str, ask: Ask, status: u16) -> Option<Value> {
        self.ask(ask, &[status]).await?.json().ok()?.get(name).cloned()
    }
}

pub(super) fn post(target: impl Into<String>) -> Ask {
    Ask::new(Method::POST, target)
}

pub(super) fn put(target: impl Into<String>) -> Ask {
    Ask::new(Method::PUT, target)
}

fn pick<T>(items: &[T], number: usize) -> Option<&T> {
    items.get(number.checked_rem(items.len())?)
}

/// Pages of a listing until there are enough items.
fn items(url: &str, collection: &str, count: usize) -> Result<Vec<Value>> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    while items.len() < count {
        let page = http::get_json(url, &format!("{collection}?limit=200{cursor}"))?;
        let found = page.get("items").and_then(Value::as_array).context("a listing without items")?;
        items.extend(found.iter().cloned());
        let Some(next) = page.get("next").and_then(Value::as_str) else { break };
        cursor = format!("&cursor={next}");
    }
    items.truncate(count);
    Ok(items)
}

fn ids(items: &[Value]) -> Result<Vec<i64>> {
    items.iter().map(|item| item.get("id").and_then(Value::as_i64).context("an item without an id")).collect()
}
