//! A PostgreSQL server that is frozen, stopped, or does not want us.

use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use pg_harness::{Cluster, Mode};
use platform::settings::Secret;

use crate::tests::home::{PATIENCE, eventually};
use crate::tests::{reads, who};
use crate::*;

fn settings(url: &str) -> ControlSettings {
    ControlSettings { url: Secret::new(url), answer_timeout_ms: 1_000, ..ControlSettings::default() }
}

struct World {
    cluster: Cluster,
    store: ControlStore,
    watcher: Watcher,
    /// The weight of reads in hundredths, or that the store is in trouble.
    told: Receiver<Result<u16, String>>,
    _database: pg_harness::Database,
}

fn world() -> World {
    let cluster = Cluster::durable().unwrap();
    let database = cluster.create_database().unwrap();
    let store = ControlStore::open(&settings(database.url())).unwrap();
    store.declare("users", DataMode::Shared).unwrap();
    let (sender, told) = mpsc::channel();
    let watcher = Watcher::spawn(store.clone(), "facade-1".to_owned(), InstanceKind::Facade, move |flags| {
        let _ =
            sender.send(flags.map(|flags| flags[0].reads.basis_points()).map_err(|error| error.to_string()));
        Vec::new()
    })
    .unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Ok(0));
    World { cluster, store, watcher, told, _database: database }
}

impl World {
    fn told(&self) -> Result<u16, String> {
        self.told.recv_timeout(PATIENCE).unwrap()
    }

    /// The next weight, past what is said of trouble: a busy machine may take long to answer.
    fn weight(&self) -> u16 {
        loop {
            if let Ok(points) = self.told() {
                return points;
            }
        }
    }
}

#[test]
fn a_frozen_server_keeps_nobody_waiting_and_is_followed_again() {
    let world = world();
    world.cluster.freeze().unwrap();
    for _ in 0..3 {
        let began = Instant::now();
        let error = world.store.set_flag("users", reads("10"), &who()).unwrap_err();
        assert!(matches!(error, ControlError::Silent { .. } | ControlError::NoAnswer { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    }
    world.told().unwrap_err();
    assert!(!world.watcher.vitals().up);
    world.cluster.thaw().unwrap();
    eventually("a change succeeds", || world.store.set_flag("users", reads("20"), &who()).is_ok());
    eventually("the change is told", || world.weight() == 2_000);
    eventually("the watch says so", || world.watcher.vitals().up);
}

/// Those whose callers have gone must not change anything once the server goes on.
#[test]
fn a_change_that_was_given_up_before_its_commit_is_not_made_later() {
    let world = world();
    world.cluster.freeze().unwrap();
    let error = world.store.set_flag("users", reads("10"), &who()).unwrap_err();
    let is_certain =
        matches!(error, ControlError::Silent { maybe_done: false, .. } | ControlError::NoAnswer { .. });
    assert!(is_certain, "{error}");
    world.cluster.thaw().unwrap();
    // Takes its turn after whatever the first call may still do.
    eventually("the store answers", || world.store.set_flag("users", reads("30"), &who()).is_ok());
    let history = world.store.history(None, 10).unwrap();
    assert_eq!(history.len(), 1, "{history:?}");
}

#[test]
fn after_a_crash_of_the_server_changes_are_told_again() {
    let world = world();
    for percent in ["10", "20"] {
        world.cluster.restart(Mode::Immediate).unwrap();
        eventually("a change succeeds", || world.store.set_flag("users", reads(percent), &who()).is_ok());
        let points = percent.parse::<u16>().unwrap() * 100;
        eventually("the change is told", || world.weight() == points);
    }
}

#[test]
fn a_stopped_server_is_named_without_its_password() {
    let error = ControlStore::open(&settings("postgres://me:hush@127.0.0.1:1/flags")).err().unwrap();
    let text = platform::error::chain(&error);
    assert!(text.contains("127.0.0.1:1/flags") && !text.contains("hush"), "{text}");
}

#[test]
fn an_unreadable_url_is_refused_without_its_password() {
    for url in ["postgres://me:hush%zz@h/n", "postgres://me:hush@[h/n", "postgres://me:hush@h:x/n"] {
        let text = platform::error::chain(&ControlStore::open(&settings(url)).err().unwrap());
        assert!(!text.contains("hush"), "{text}");
    }
}

#[test]
fn a_server_whose_tables_are_of_another_form_is_refused() {
    let database = pg_harness::shared_database().unwrap();
    ControlStore::open(&settings(database.url())).unwrap();
    database.run("UPDATE banyan_control.form SET version = 99").unwrap();
    let error = ControlStore::open(&settings(database.url())).err().unwrap().to_string();
    assert!(error.contains("its form is 99"), "{error}");
}
