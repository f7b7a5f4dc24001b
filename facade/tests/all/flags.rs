//! Flags in effect: stickiness, weights, and changes under load.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use control::{FlagChange, Side, bucket};

use crate::support::{Fixture, Upstream, eventually, ok, who};

fn both() -> (Upstream, Upstream) {
    (Upstream::saying("monolith"), Upstream::saying("service"))
}

#[test]
fn a_key_sticks_to_its_side_and_raising_the_weight_only_adds_keys() {
    let (monolith, service) = both();
    let fixture = Fixture::new(monolith.address, service.address);
    let mut before = BTreeSet::new();
    for percent in ["0", "1", "30", "70", "100"] {
        fixture.set(percent, None);
        let points = percent.parse::<u16>().unwrap() * 100;
        let mut wire = fixture.connect();
        let mut moved = BTreeSet::new();
        for key in 0..200 {
            for path in [format!("/users/{key}"), "/users".to_owned()] {
                wire.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-key: {key}\r\n\r\n"));
                let is_moved = wire.message().unwrap().text() == "service";
                assert_eq!(
                    is_moved,
                    bucket("users", key.to_string().as_bytes()) < points,
                    "{path} {key} {percent}"
                );
                if is_moved {
                    moved.insert(key);
                }
            }
        }
        assert!(moved.is_superset(&before));
        before = moved;
    }
    assert_eq!(before.len(), 200);
}

#[test]
fn a_read_without_a_key_moves_last() {
    let (monolith, service) = both();
    let fixture = Fixture::new(monolith.address, service.address);
    fixture.set("99.99", None);
    assert_eq!(fixture.get("/users").text(), "monolith");
    fixture.set("100", None);
    assert_eq!(fixture.get("/users").text(), "service");
}

#[test]
fn writes_follow_the_owner_and_other_paths_stay() {
    let (monolith, service) = both();
    let fixture = Fixture::new(monolith.address, service.address);
    let post = |path: &str| {
        fixture.request(&format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")).text()
    };
    fixture.set("100", None);
    assert_eq!(post("/users"), "monolith");
    fixture.set("100", Some(Side::Service));
    assert_eq!(post("/users"), "service");
    assert_eq!(post("/orders"), "monolith");
}

#[test]
fn changes_take_effect_within_a_second_and_no_request_fails() {
    let (monolith, service) =
        (Upstream::answering(|_| ok("monolith")), Upstream::answering(|_| ok("service")));
    let fixture = Arc::new(Fixture::new(monolith.address, service.address));
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (fixture, stop, answered) = (Arc::clone(&fixture), Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || {
                let mut wire = fixture.connect();
                while !stop.load(Ordering::Relaxed) {
                    let method = if client % 2 == 0 { "GET" } else { "PUT" };
                    wire.send(format!(
                        "{method} /users/{client} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"
                    ));
                    assert_eq!(wire.message().unwrap().status(), 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut wire = fixture.connect();
    for round in 0..50 {
        let side = if round % 2 == 0 { Side::Service } else { Side::Monolith };
        let reads = if side == Side::Service { "100" } else { "0" };
        let change = FlagChange { reads: Some(reads.parse().unwrap()), writes: Some(side), force: false };
        fixture.store.set_flag("users", change, &who()).unwrap();
        let changed = Instant::now();
        eventually("the change takes effect", || {
            wire.send("GET /users/1 HTTP/1.1\r\nhost: a\r\n\r\n");
            wire.message().unwrap().text() == side.as_str()
        });
        assert!(changed.elapsed() < Duration::from_secs(1));
    }
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!(answered.load(Ordering::Relaxed) > 100);
}
