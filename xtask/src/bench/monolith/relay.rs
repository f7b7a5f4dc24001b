//! The rate at which waiting events are delivered, against that at which a bare diesel loop updates their rows.
//!
//! Invariant: every event has an effect on an order of its own, and the order shows it afterwards.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::process::Job;
use harness::{Binaries, databases, wait};
use rusqlite::Connection;

use super::Measured;
use super::shop::{Backend, Shop};

const EVENTS: u32 = 100_000;
const LIMIT: Duration = Duration::from_secs(900);

/// Orders that are being called off, and for each the event that its stock was released.
const PREPARE: &str = r#"
PRAGMA journal_mode = WAL;
BEGIN;
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1)
INSERT INTO orders_orders
    (id, user_id, kind, status, currency, total_minor, placed_at_ms, confirmed_at_ms, cancelled_at_ms, payment_method, cancellation)
SELECT n, 1, 'sale', 'cancelling', 'GBP', 100, 1, 1, 1, 'account',
    '{"stock":{"status":"waiting"},"payment":{"status":"waiting"},"shipment":{"status":"waiting"}}'
FROM numbers;
INSERT INTO banyan_outbox
    (event_id, consumer, aggregate, kind, payload, request_id, occurred_at_ms, available_at_ms)
SELECT printf('00000000-0000-7000-8000-%012d', id), 'orders', 'order/' || id, 'inventory.StockReleased',
    '{"order_id":' || id || '}', 'bench', 1, 1
FROM orders_orders ORDER BY id;
COMMIT;
PRAGMA wal_checkpoint(TRUNCATE);
"#;

pub(super) fn rate_against_bare_loop(binaries: &Binaries) -> Result<Measured> {
    let (ours, theirs) = (shop(binaries)?, shop(binaries)?);
    let bare = bare_rate(&theirs)?;
    let drained = drained_rate(&ours)?;
    eprintln!("relay: {drained:.0} events a second, bare loop {bare:.0} rows a second");
    Ok(Measured::at_least(drained / bare, 1.0 / 3.0))
}

fn shop(binaries: &Binaries) -> Result<Shop> {
    let shop = Shop::empty(binaries, Backend::Sqlite)?;
    shop.run(&["seed", "--users", "1"])?;
    let connection = Connection::open(shop.file())?;
    connection.execute_batch(&PREPARE.replace("?1", &EVENTS.to_string()))?;
    Ok(shop)
}

fn bare_rate(shop: &Shop) -> Result<f64> {
    let output = Job::start(&shop.bare_peer("update-events"))?.finish(LIMIT)?.ok()?;
    let (count, seconds) = output.stdout.trim().split_once(' ').context("bare-peer printed no figures")?;
    ensure!(count.parse() == Ok(EVENTS), "bare-peer updated {count} rows");
    Ok(f64::from(EVENTS) / seconds.parse::<f64>()?)
}

fn drained_rate(shop: &Shop) -> Result<f64> {
    let begun = Instant::now();
    let monolith = shop.monolith(&[])?;
    wait::until("all events are delivered", LIMIT, || {
        // Looked at rarely, and by a query that ends at the first row.
        std::thread::sleep(Duration::from_millis(100));
        Ok((number(&shop.file(), "SELECT EXISTS (SELECT 1 FROM banyan_outbox)")? == 0).then_some(()))
    })?;
    let took = begun.elapsed();
    monolith.stop()?;
    let done = "SELECT count(*) FROM orders_orders WHERE cancellation ->> '$.stock.status' = 'done'";
    ensure!(number(&shop.file(), done)? == i64::from(EVENTS), "not every event had its effect");
    Ok(f64::from(EVENTS) / took.as_secs_f64())
}

fn number(file: &Path, sql: &str) -> Result<i64> {
    ensure!(fs::exists(file)?, "no database {}", file.display());
    databases::number(file, sql)
}
