//! Many who decide at once, each with connections of its own, as processes have.

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};
use std::thread;

use crate::tests::home::{Backend, Home, on_both, open};
use crate::tests::{ready, who};
use crate::*;

const DECIDERS: usize = 6;
const ROUNDS: usize = 15;

on_both!([
    a_new_store_is_made_once_by_many_who_begin_together,
    tokens_given_out_side_by_side_are_all_different_and_grow,
    of_a_flip_and_an_abort_side_by_side_one_happens,
    of_many_who_begin_a_switch_one_does,
    a_store_that_must_exist_is_not_created,
]);

fn a_new_store_is_made_once_by_many_who_begin_together(on: Backend) {
    let home = Home::new(on);
    let settings = home.settings(ControlSettings::default());
    let stores = side_by_side(DECIDERS, |_| {
        let store = ControlStore::open(&settings).unwrap();
        store.declare("users", DataMode::Shared).unwrap();
        store
    });
    for store in stores {
        assert_eq!(store.flags().unwrap().len(), 1);
    }
}

fn tokens_given_out_side_by_side_are_all_different_and_grow(on: Backend) {
    let (home, store) = open(on, ControlSettings::default());
    store.declare("users", DataMode::Shared).unwrap();
    let settings = home.settings(ControlSettings::default());
    let given = side_by_side(DECIDERS, |decider| {
        let store = ControlStore::open(&settings).unwrap();
        let set = |round: usize| {
            let points = i64::try_from(round * DECIDERS + decider + 1).unwrap();
            let reads = Some(Weight::from_basis_points(points).unwrap());
            let change = FlagChange { reads, ..FlagChange::default() };
            store.set_flag("users", change, &who()).unwrap().token
        };
        (0..ROUNDS).map(set).collect::<Vec<_>>()
    });
    assert!(given.iter().all(|tokens| tokens.is_sorted_by(|a, b| a < b)), "{given:?}");
    let all: BTreeSet<i64> = given.iter().flatten().copied().collect();
    assert_eq!(all.len(), DECIDERS * ROUNDS);
    assert_eq!(store.flag("users").unwrap().token, i64::try_from(DECIDERS * ROUNDS).unwrap());
    let audited: Vec<i64> = store.history(None, 1_000).unwrap().iter().rev().map(|row| row.token).collect();
    assert_eq!(audited, all.into_iter().collect::<Vec<_>>(), "one row for each change, in their order");
}

fn of_a_flip_and_an_abort_side_by_side_one_happens(on: Backend) {
    let (home, store) = ready(on, patient());
    let other = ControlStore::open(&home.settings(patient())).unwrap();
    for _ in 0..ROUNDS {
        let to = store.flag("users").unwrap().writes.other();
        let hold = store.begin_switch("users", to, &who()).unwrap();
        let done = side_by_side(2, |which| match which {
            0 => store.flip("users", hold.token, &who()).is_ok(),
            _ => other.abort_switch("users", hold.token, &who()).unwrap(),
        });
        assert_ne!(done[0], done[1]);
        assert_eq!(store.flag("users").unwrap().writes == to, done[0]);
        store.finish_switch("users", hold.token, &who()).unwrap();
    }
}

fn of_many_who_begin_a_switch_one_does(on: Backend) {
    let (home, store) = ready(on, patient());
    let settings = home.settings(patient());
    let begun = side_by_side(DECIDERS, |_| {
        let store = ControlStore::open(&settings).unwrap();
        store.begin_switch("users", Side::Service, &who()).is_ok()
    });
    assert_eq!(begun.iter().filter(|begun| **begun).count(), 1);
    assert!(store.flag("users").unwrap().hold.is_some());
}

fn a_store_that_must_exist_is_not_created(on: Backend) {
    let home = Home::new(on);
    let settings = home.settings(ControlSettings::default());
    for _ in 0..2 {
        let error = ControlStore::open_existing(&settings).err().unwrap();
        assert!(
            matches!(&error, ControlError::Missing { place, .. } if *place == settings.place()),
            "{error}"
        );
    }
    ControlStore::open(&settings).unwrap();
    assert!(ControlStore::open_existing(&settings).unwrap().flags().unwrap().is_empty());
}

fn patient() -> ControlSettings {
    ControlSettings { hold_limit_ms: 60_000, ..ControlSettings::default() }
}

/// Lets so many do this, all beginning at the same time.
fn side_by_side<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Arc::new(Barrier::new(count));
    thread::scope(|scope| {
        let spawn = |number| {
            let (start, work) = (Arc::clone(&start), &work);
            scope.spawn(move || {
                start.wait();
                work(number)
            })
        };
        let threads: Vec<_> = (0..count).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
