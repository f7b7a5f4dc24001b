//! Checkouts while monoliths are killed and the payment provider misbehaves: afterwards the books agree, and every key that a
//! client sent has become one order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use harness::http::{self, Ask};
use harness::shop::{Books, Shop, Storage, order};
use hyper::Method;
use serde_json::{Value, json};

const CLIENTS: usize = 8;
/// Longer than any kill and restart takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the monoliths are at the moment, for clients that must go on whatever dies.
type Addresses = Arc<Mutex<Vec<String>>>;

/// What the clients have done.
#[derive(Default)]
struct Clients {
    /// The order that each key became.
    orders: BTreeMap<usize, i64>,
    /// Keys whose order was called off.
    cancelled: BTreeSet<usize>,
}

/// Sends a command until it is answered with a 2xx status, wherever a monolith is.
fn insist(addresses: &Addresses, number: usize, ask: &Ask) -> Value {
    let deadline = Instant::now() + PATIENCE;
    for attempt in number.. {
        let url = {
            let urls = addresses.lock().unwrap();
            urls[attempt % urls.len()].clone()
        };
        match http::call(&url, ask.clone()) {
            Ok(answer) if (200..300).contains(&answer.status) => return answer.json().unwrap(),
            Ok(answer) => assert!(answer.status >= 500, "{}: {}", answer.status, answer.text()),
            Err(_) => thread::yield_now(),
        }
        assert!(Instant::now() < deadline, "{} was not answered in {} s", ask.target, PATIENCE.as_secs());
    }
    unreachable!("there are always more attempts");
}

/// Waits until an order is no longer pending, so that calling it off takes the way of events.
fn confirmed(addresses: &Addresses, number: usize, id: i64) {
    let read = Ask::get(format!("/api/v1/orders/{id}"));
    harness::wait::until("an order that is not pending", PATIENCE, || {
        Ok((insist(addresses, number, &read)["status"] != "pending").then_some(()))
    })
    .unwrap();
}

/// One client: places its share of the orders, each under a key of its own, and calls some of them off.
fn client(
    addresses: &Addresses,
    numbers: impl Iterator<Item = usize>,
    done: &AtomicUsize,
    book: &Mutex<Clients>,
) {
    for number in numbers {
        let product = i64::try_from(2 + number % 40).unwrap();
        let method = if number.is_multiple_of(5) { "account" } else { "pm_ok" };
        let place = Ask::new(Method::POST, "/api/v1/orders")
            .json(&order(1, product, 1 + i64::try_from(number % 3).unwrap(), method))
            .header("idempotency-key", format!("key-{number}"));
        let id = insist(addresses, number, &place)["id"].as_i64().unwrap();
        if number.is_multiple_of(7) {
            if number.is_multiple_of(2) {
                confirmed(addresses, number, id);
            }
            insist(addresses, number, &Ask::new(Method::POST, format!("/api/v1/orders/{id}/cancel")));
            book.lock().unwrap().cancelled.insert(number);
        }
        book.lock().unwrap().orders.insert(number, id);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs so many checkouts over these monoliths; one after the other is killed each time so many more are done.
fn survive(storage: Storage, monoliths: usize, checkouts: usize, kills: usize) {
    let mut shop = Shop::stocked(storage, 1_000).unwrap();
    let misbehaviour = json!({
        "fail_rate": 0.05, "charge_then_fail_rate": 0.04, "charge_then_hang_rate": 0.02, "drop_rate": 0.04,
        "late_rate": 0.03, "late_ms": 300, "hang_ms": 1000, "seed": 11,
    });
    shop.behave(&misbehaviour).unwrap();
    for _ in 0..monoliths {
        shop.start(&[]).unwrap();
    }
    let urls =
        |shop: &Shop| (0..monoliths).map(|number| shop.url(number).unwrap().to_owned()).collect::<Vec<_>>();
    let addresses: Addresses = Arc::new(Mutex::new(urls(&shop)));
    let (done, book) = (AtomicUsize::new(0), Mutex::new(Clients::default()));
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (addresses, done, book) = (&addresses, &done, &book);
            scope.spawn(move || client(addresses, (number..checkouts).step_by(CLIENTS), done, book));
        }
        for kill in 1..=kills {
            let due = checkouts * kill / (kills + 1);
            harness::wait::until("more checkouts", PATIENCE, || {
                Ok((done.load(Ordering::Relaxed) >= due).then_some(()))
            })
            .unwrap();
            let victim = kill % monoliths;
            shop.kill(victim).unwrap();
            if kill == kills / 2 {
                shop.kill_provider().unwrap();
                shop.start_provider().unwrap();
                shop.behave(&misbehaviour).unwrap();
            }
            shop.start_again(victim, &[]).unwrap();
            *addresses.lock().unwrap() = urls(&shop);
        }
    });
    shop.behave(&json!({})).unwrap();
    shop.wait_until_settled().unwrap();
    let clients = book.into_inner().unwrap();
    let books = Books::read(&shop).unwrap();
    assert_eq!(books.faults(), Vec::<String>::new());
    let distinct: BTreeSet<i64> = clients.orders.values().copied().collect();
    assert_eq!((clients.orders.len(), distinct.len(), books.orders()), (checkouts, checkouts, checkouts));
    let confirmed = books.count("confirmed");
    assert!(confirmed > checkouts / 2, "only {confirmed} of {checkouts} were confirmed");
    let called_off = clients.cancelled.iter().filter_map(|number| clients.orders.get(number));
    let went_on: Vec<&i64> = called_off.filter(|id| books.status(**id) != Some("cancelled")).collect();
    assert!(went_on.is_empty(), "called off, and acknowledged, but not cancelled: {went_on:?}");
    let by_events = shop.number("SELECT count(*) FROM orders_history WHERE status = 'cancelling'").unwrap();
    assert!(by_events > 0, "no order was called off by way of events");
    let dead = shop.number("SELECT count(*) FROM banyan_outbox WHERE dead_at_ms IS NOT NULL").unwrap();
    assert_eq!(dead, 0, "events became dead letters");
}

#[test]
fn the_books_agree_after_kills_on_sqlite() {
    survive(Storage::Sqlite, 1, 1_000, 20);
}

#[test]
fn the_books_agree_after_kills_of_two_processes_on_one_postgresql() {
    survive(Storage::Postgres, 2, 1_000, 20);
}
