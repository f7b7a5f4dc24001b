//! Real servers that are killed and frozen while clients read and write.
//!
//! Invariant: no write reaches two servers, none that was answered well is lost, and every other answer says what is wrong.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use facade::settings::UpstreamSettings;
use tempfile::TempDir;

use crate::foreign::Process;
use crate::support::{Fixture, Message, Upstream, Wire, eventually};

/// A server with a book of what was written to it.
struct Book {
    process: Process,
    address: SocketAddr,
    path: PathBuf,
}

impl Book {
    fn open(folder: &TempDir, name: &str) -> Self {
        let path = folder.path().join(name);
        let mut command = Command::new("python3");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all/book.py");
        let mut process = Process::start(command.args(["-u", script]).arg(&path));
        let port: u16 = process.line().parse().unwrap();
        Self { process, address: SocketAddr::from(([127, 0, 0, 1], port)), path }
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.path).unwrap().lines().map(str::to_owned).collect()
    }
}

fn fixture(books: &[&Book], change: impl FnOnce(&mut UpstreamSettings)) -> Fixture {
    Fixture::with(Upstream::nobody(), Upstream::nobody(), |settings| {
        let upstream = settings.upstreams.get_mut("monolith").unwrap();
        upstream.url.clear();
        upstream.instances = books.iter().map(|book| format!("http://{}", book.address)).collect();
        change(upstream);
        settings.timeouts.header_ms = 500;
    })
}

/// What clients did and heard so far.
#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    count: AtomicUsize,
    well: AtomicUsize,
    answers: Mutex<Vec<(String, Message)>>,
}

impl Load {
    /// Reads or writes one after the other, each with a name of its own.
    fn run(&self, address: SocketAddr, method: &str) {
        let mut wire = Wire::connect(address);
        while !self.is_over.load(SeqCst) {
            let name = format!("{method}-{}", self.count.fetch_add(1, SeqCst));
            let length = if method == "POST" { name.len() } else { 0 };
            let body = if method == "POST" { name.as_str() } else { "" };
            wire.send(format!(
                "{method} /a HTTP/1.1\r\nhost: shop\r\ncontent-length: {length}\r\n\r\n{body}"
            ));
            let Some(answer) = wire.message() else {
                self.is_over.store(true, SeqCst);
                panic!("{name} got no answer");
            };
            if answer.header("connection") == Some("close") {
                wire = Wire::connect(address);
            }
            self.well.fetch_add(usize::from(answer.status() == 200), SeqCst);
            self.answers.lock().unwrap().push((name, answer));
        }
    }

    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        eventually(what, || is_so() || self.is_over.load(SeqCst));
    }

    fn more_well(&self, more: usize) {
        let goal = self.well.load(SeqCst) + more;
        self.until("requests are answered well", || self.well.load(SeqCst) >= goal);
    }

    /// The statuses of what went wrong, once it is certain that all is as it must be.
    fn audit(self, books: &[&Book]) -> Vec<u16> {
        let written: Vec<_> = books.iter().flat_map(|book| book.lines()).collect();
        let different: HashSet<_> = written.iter().collect();
        assert_eq!(different.len(), written.len(), "a write was sent twice");
        let mut failures = Vec::new();
        for (name, answer) in self.answers.into_inner().unwrap() {
            let status = answer.status();
            if status == 200 {
                assert!(name.starts_with("GET") || different.contains(&name), "{name} is lost");
                continue;
            }
            assert!([502, 503, 504].contains(&status), "{name}: {answer:?}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            assert_eq!(answer.json()["status"], status);
            assert!(name.starts_with("POST"), "a read failed: {}", answer.text());
            failures.push(status);
        }
        failures
    }
}

/// Runs clients while `disturb` does its worst, then ends them.
fn under_load(fixture: &Fixture, methods: &[&str], disturb: impl FnOnce(&Load)) -> Load {
    let (load, address) = (Arc::new(Load::default()), fixture.facade.address());
    std::thread::scope(|scope| {
        let clients = methods.iter().map(|method| scope.spawn(|| load.run(address, method)));
        let clients: Vec<_> = clients.collect();
        load.more_well(50);
        disturb(&load);
        load.is_over.store(true, SeqCst);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    Arc::into_inner(load).unwrap()
}

#[test]
fn killing_an_instance_under_writes_sends_none_twice_and_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Book::open(&folder, "one"), Book::open(&folder, "other"));
    let fixture = fixture(&[&one, &other], |_| ());
    let load = under_load(&fixture, &["POST"; 4], |load| {
        one.process.signal("KILL");
        load.more_well(100);
    });
    let failures = load.audit(&[&one, &other]);
    // At most what was under way when it was killed, and a stale connection of each worker's.
    assert!(failures.len() <= 12, "{failures:?}");
}

#[test]
fn killing_the_only_instance_under_writes_loses_none_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let only = Book::open(&folder, "only");
    let fixture = fixture(&[&only], |upstream| upstream.breaker.least_requests = 5);
    let load = under_load(&fixture, &["POST"; 4], |load| {
        only.process.signal("KILL");
        let is_refused = |(_, answer): &(String, Message)| answer.status() == 503;
        load.until("the breaker opens", || load.answers.lock().unwrap().iter().any(is_refused));
    });
    assert!(load.audit(&[&only]).contains(&503));
}

#[test]
fn a_frozen_instance_costs_no_read_and_few_writes_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Book::open(&folder, "one"), Book::open(&folder, "other"));
    let fixture = fixture(&[&one, &other], |upstream| {
        upstream.ejection.base_ms = 100;
        upstream.ejection.most_ms = 500;
    });
    let load = under_load(&fixture, &["GET", "POST", "GET", "POST"], |load| {
        one.process.signal("STOP");
        let is_late = |(_, answer): &&(String, Message)| answer.status() == 504;
        let late = || load.answers.lock().unwrap().iter().filter(is_late).count();
        // Two writes can be under way to it when it freezes, so the others were sent to see whether it is back.
        load.until("writes fail that try it again", || late() >= 4);
        load.more_well(100);
        one.process.signal("CONT");
        let before = one.lines().len();
        load.until("it is written to again", || one.lines().len() > before + 20);
    });
    let failures = load.audit(&[&one, &other]);
    assert!(failures.len() <= 20 && failures.iter().all(|status| *status == 504), "{failures:?}");
}
