//! PostgreSQL is stopped as by a crash for ten seconds under load: how it is answered meanwhile, what is lost or doubled, and
//! how long after its return the full rate is back.
//!
//! Invariant: each order carries its key as the label of its address, so what is stored is counted by key, by SQL.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use harness::http::{self, Answer, Ask, Connection};
use harness::{Binaries, wait};
use pg_harness::{Database, Mode};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::Measured;
use super::clients::{Wares, drive, post};
use super::shop::{Backend, Postgres, Shop};

const CLIENTS: usize = 32;
/// Of each client; all together ask for about half of what two cores can do.
const PERIOD: Duration = Duration::from_millis(100);
const BEFORE: Duration = Duration::from_secs(8);
const OUTAGE: Duration = Duration::from_secs(10);
const AFTER: Duration = Duration::from_secs(8);
/// No answer may take longer.
const PATIENCE: Duration = Duration::from_secs(1);
const LIMIT_S: f64 = 2.0;
/// Of the rate before the outage.
const FULL: f64 = 0.9;

/// One answered request.
struct Record {
    /// Of an order.
    key: Option<String>,
    number: usize,
    sent: Instant,
    ended: Instant,
    answer: Result<Answer>,
}

pub(super) fn seconds_to_full_rate(binaries: &Binaries) -> Result<Measured> {
    let shop = Shop::stocked(binaries, Backend::Postgres, 1_000)?;
    let mut monolith = shop.monolith(&[])?;
    let url = monolith.url()?.to_owned();
    let wares = Wares::read(&url, 1_000, 1_000)?;
    let postgres = shop.postgres.as_ref().context("the shop has no server")?;
    let stop = Arc::new(AtomicBool::new(false));
    let load = thread::spawn({
        let (url, wares, stop) = (url.clone(), wares.clone(), Arc::clone(&stop));
        move || drive(CLIENTS, |number| visit(url.clone(), wares.clone(), number, Arc::clone(&stop)))
    });
    let outage = interrupt(postgres);
    stop.store(true, Ordering::Relaxed);
    let records = load.join().map_err(|_| anyhow!("the load panicked"))??;
    let (gone, back) = outage?;
    let records: Vec<Record> = records.into_iter().flatten().collect();
    ensure!(monolith.runs()?, "the monolith ended: {}", monolith.log_tail());
    check_answers(&records, gone, back)?;
    check_orders(&postgres.database, &url, &wares, &records)?;
    let seconds = until_full(&records, gone, back).context("the full rate did not come back")?;
    Ok(Measured::at_most(seconds, LIMIT_S))
}

/// When the server was told to stop, and when it accepted connections again.
fn interrupt(postgres: &Postgres) -> Result<(Instant, Instant)> {
    thread::sleep(BEFORE);
    let gone = Instant::now();
    postgres.cluster.stop(Mode::Immediate)?;
    thread::sleep(OUTAGE.saturating_sub(gone.elapsed()));
    postgres.cluster.start_again()?;
    let back = Instant::now();
    thread::sleep(AFTER);
    Ok((gone, back))
}

/// Reads and orders in turn, at a fixed pace.
async fn visit(url: String, wares: Wares, client: usize, stop: Arc<AtomicBool>) -> Vec<Record> {
    let mut connection = Connection::to(&url);
    let mut pace = tokio::time::interval(PERIOD);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut records, mut number) = (Vec::new(), client);
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let key = (records.len() % 2 == 0).then(|| format!("outage-{number}"));
        let ask = match &key {
            Some(key) => order(&wares, number, key),
            None => Ask::get(format!("/api/v1/users/{}", wares.user(number))),
        };
        let sent = Instant::now();
        let answer = connection.send(ask).await;
        records.push(Record { key, number, sent, ended: Instant::now(), answer });
        number += CLIENTS;
    }
    records
}

fn order(wares: &Wares, number: usize, key: &str) -> Ask {
    let ship_to = json!({ "label": key, "street": null, "city": null, "postcode": null, "country": "UK" });
    post("/api/v1/orders").json(&wares.order(number, &ship_to)).header("idempotency-key", key)
}

/// Whatever is not done is refused as the API says, in time.
fn check_answers(records: &[Record], gone: Instant, back: Instant) -> Result<()> {
    let (mut refused, mut slowest) = (0, Duration::ZERO);
    for record in records {
        let took = record.ended - record.sent;
        let what = record.key.as_deref().unwrap_or("a read");
        let answer = record.answer.as_ref().map_err(|error| anyhow!("{what} got no answer: {error:#}"))?;
        if record.ended >= gone && record.sent <= back {
            slowest = slowest.max(took);
        }
        if is_done(record) {
            continue;
        }
        refused += 1;
        let kind = answer.header("content-type").unwrap_or_default();
        ensure!(
            answer.status == 503 && kind.starts_with("application/problem+json"),
            "{what} was answered {} as {kind}: {}",
            answer.status,
            answer.text()
        );
        ensure!(
            record.ended >= gone,
            "{what} was refused {:.1} s before the outage",
            (gone - record.ended).as_secs_f64()
        );
    }
    eprintln!("outage: {} requests, {refused} refused, slowest answer {slowest:.0?}", records.len());
    ensure!(refused > 0, "no request met the outage");
    ensure!(slowest <= PATIENCE, "an answer took {slowest:.0?} while the server was away");
    Ok(())
}

/// Every acknowledged order is there once, and a refused one that is sent again becomes one.
fn check_orders(database: &Database, url: &str, wares: &Wares, records: &[Record]) -> Result<()> {
    let mut acknowledged = BTreeMap::new();
    let mut already = 0;
    let stored = stored(database)?;
    for record in records {
        let Some(key) = record.key.clone() else { continue };
        let id = match &record.answer {
            Ok(answer) if answer.status == 201 => id_of(answer)?,
            _ => {
                already += usize::from(stored.contains_key(&key));
                let answer = http::call(url, order(wares, record.number, &key))?;
                ensure!(answer.status == 201, "{key} was sent again and answered {}", answer.text());
                id_of(&answer)?
            }
        };
        acknowledged.insert(key, vec![id]);
    }
    let stored = self::stored(database)?;
    let wrong = acknowledged.iter().find(|(key, ids)| stored.get(*key) != Some(*ids));
    if let Some((key, ids)) = wrong {
        return Err(anyhow!("{key} was answered with order {ids:?}, and stored are {:?}", stored.get(key)));
    }
    ensure!(stored.len() == acknowledged.len(), "there are orders that nobody sent");
    eprintln!("outage: {} orders, each once; {already} of the refused ones had been done", stored.len());
    wait::until("every checkout ends", Duration::from_secs(60), || {
        let left = database.run("SELECT count(*) FROM orders.orders_orders WHERE status = 'pending'")?;
        Ok((left.trim() == "0").then_some(()))
    })
}

/// The orders in the database by key.
fn stored(database: &Database) -> Result<BTreeMap<String, Vec<i64>>> {
    let rows = database.run(
        "SELECT ship_to::json ->> 'label', id FROM orders.orders_orders WHERE ship_to LIKE '%outage-%' ORDER BY id",
    )?;
    let mut stored: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for row in rows.lines() {
        let (key, id) = row.split_once('|').context("psql printed no columns")?;
        stored.entry(key.to_owned()).or_default().push(id.parse()?);
    }
    Ok(stored)
}

fn id_of(answer: &Answer) -> Result<i64> {
    answer.json()?.get("id").and_then(Value::as_i64).context("an order without an id")
}

fn is_done(record: &Record) -> bool {
    record.answer.as_ref().is_ok_and(|answer| matches!(answer.status, 200 | 201))
}

/// Seconds from the server's return to the beginning of the first second with the full rate.
fn until_full(records: &[Record], gone: Instant, back: Instant) -> Option<f64> {
    let done = |from: Instant, to: Instant| {
        records.iter().filter(|record| is_done(record) && (from..to).contains(&record.ended)).count() as f64
    };
    // Not from the first second, in which connections are opened and statements prepared.
    let measured = BEFORE - Duration::from_secs(2);
    let before = done(gone - measured, gone) / measured.as_secs_f64();
    let second = Duration::from_secs(1);
    let steps = (AFTER - second).as_millis() / 50;
    let mut starts = (0..u32::try_from(steps).ok()?).map(|step| Duration::from_millis(50) * step);
    let start = starts.find(|start| done(back + *start, back + *start + second) >= FULL * before)?;
    eprintln!(
        "outage: {before:.0} answers a second before; after the return {:.0} in the first second, full after {:.2} s",
        done(back, back + second),
        start.as_secs_f64()
    );
    Some(start.as_secs_f64())
}
