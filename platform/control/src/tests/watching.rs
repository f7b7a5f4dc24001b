//! What a watch tells, and what it reports, on both databases.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::tests::home::{Backend, PATIENCE, eventually, on_both};
use crate::tests::{reads, ready, who};
use crate::*;

on_both!([
    a_watch_tells_every_change_and_reports_what_it_is_told,
    a_word_said_while_a_change_is_told_outlasts_the_answer_to_it,
    a_change_is_told_at_once_without_being_looked_for,
    late_data_is_told_like_a_change,
]);

fn a_watch_tells_every_change_and_reports_what_it_is_told(on: Backend) {
    let (_home, store) = ready(on, ControlSettings::default());
    let (sender, changes) = mpsc::channel();
    let watcher = Watcher::spawn(store.clone(), "facade-1".to_owned(), InstanceKind::Facade, move |flags| {
        let flags = flags.unwrap();
        sender.send(flags[0].reads).unwrap();
        vec![Ack { context: "users".to_owned(), token: flags[0].token, held: false }]
    })
    .unwrap();
    assert_eq!(changes.recv_timeout(PATIENCE).unwrap(), Weight::ZERO);
    let flag = store.set_flag("users", reads("10"), &who()).unwrap();
    assert_eq!(changes.recv_timeout(PATIENCE).unwrap(), flag.reads);
    eventually("the token served is reported", || {
        store.instances().unwrap().iter().any(|instance| instance.acks[0].token == flag.token)
    });
    assert!(watcher.vitals().up && watcher.vitals().age.unwrap() < PATIENCE);
    drop(watcher);
    assert!(store.instances().unwrap().is_empty(), "an ended watch still counts as an instance");
}

/// The answer was formed before writes came to rest, and is given after that was said.
fn a_word_said_while_a_change_is_told_outlasts_the_answer_to_it(on: Backend) {
    let (_home, store) = ready(on, ControlSettings::default());
    let ack = |held| vec![Ack { context: "users".to_owned(), token: 5, held }];
    let (told, is_told): (Sender<()>, Receiver<()>) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = Arc::new(Mutex::new(may_go_on));
    let watcher = Watcher::spawn(store.clone(), "facade-1".to_owned(), InstanceKind::Facade, move |_| {
        let answer = ack(false);
        told.send(()).unwrap();
        may_go_on.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        answer
    })
    .unwrap();
    is_told.recv_timeout(PATIENCE).unwrap();
    watcher.set_acks(ack(true));
    go_on.send(()).unwrap();
    eventually("what was said last is reported", || {
        store.instances().unwrap().iter().any(|instance| instance.holds("users", 5))
    });
}

/// The file is looked at every few milliseconds; the server announces, long before everything is read again.
fn a_change_is_told_at_once_without_being_looked_for(on: Backend) {
    let (_home, store) = ready(on, ControlSettings::default());
    let (sender, changes) = mpsc::channel();
    let _watcher = Watcher::spawn(store.clone(), "facade-1".to_owned(), InstanceKind::Facade, move |flags| {
        sender.send(flags.unwrap()[0].token).unwrap();
        Vec::new()
    })
    .unwrap();
    changes.recv_timeout(PATIENCE).unwrap();
    let mut took = Vec::new();
    for round in 1..=30 {
        let began = std::time::Instant::now();
        let flag = store.set_flag("users", reads(&round.to_string()), &who()).unwrap();
        assert_eq!(changes.recv_timeout(PATIENCE).unwrap(), flag.token);
        took.push(began.elapsed());
    }
    took.sort();
    // Half of them, so that a busy machine is not taken for a missed announcement.
    assert!(took[15] < Duration::from_millis(400), "{took:?}");
}

fn late_data_is_told_like_a_change(on: Backend) {
    let (_home, store) = ready(on, ControlSettings { lease_ms: 600_000, ..ControlSettings::default() });
    let (sender, changes) = mpsc::channel();
    let _watcher = Watcher::spawn(store.clone(), "facade-1".to_owned(), InstanceKind::Facade, move |flags| {
        sender.send(flags.unwrap()[0].late).unwrap();
        Vec::new()
    })
    .unwrap();
    assert!(!changes.recv_timeout(PATIENCE).unwrap());
    store.record_lag("users", 3, 501).unwrap();
    assert!(changes.recv_timeout(PATIENCE).unwrap());
    store.record_lag("users", 0, 0).unwrap();
    assert!(!changes.recv_timeout(PATIENCE).unwrap());
}
