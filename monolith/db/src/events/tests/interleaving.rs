//! Whatever happens between publishing and taking: the order of an aggregate and the one effect stand.

use std::sync::atomic::{AtomicI32, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::testing;

#[derive(Debug, Clone)]
enum Act {
    Publish {
        nest: u8,
        count: u8,
    },
    /// A relay dies and another begins.
    Kill {
        relay: bool,
    },
    /// The next deliveries fail.
    Fail {
        deliveries: u8,
    },
    /// Time passes for the relays.
    Breathe,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..4_u8, 1..5_u8).prop_map(|(nest, count)| Act::Publish { nest, count }),
        2 => any::<bool>().prop_map(|relay| Act::Kill { relay }),
        2 => (1..8_u8).prop_map(|deliveries| Act::Fail { deliveries }),
        1 => Just(Act::Breathe),
    ]
}

fn stays_in_order(backend: Backend, acts: &[Act]) {
    let world = fixture(backend);
    let failing = Arc::new(AtomicI32::new(0));
    let moody = || {
        let failing = Arc::clone(&failing);
        move |_: &EggLaid| if failing.fetch_sub(1, Ordering::Relaxed) > 0 { away() } else { Ok(()) }
    };
    let settings =
        RelaySettings { lease: Duration::from_millis(60), batch: 3, max_attempts: 1000, ..hasty() };
    testing::run(async {
        let mut relays = [world.start(settings, moody()), world.start(settings, moody())];
        let mut laid = [0_i64; 4];
        for act in acts {
            match act {
                Act::Publish { nest, count } => {
                    for _ in 0..*count {
                        laid[usize::from(*nest)] += 1;
                        world.lay(&nest.to_string(), laid[usize::from(*nest)]).await;
                    }
                }
                Act::Kill { relay } => relays[usize::from(*relay)] = world.start(settings, moody()),
                Act::Fail { deliveries } => failing.store(i32::from(*deliveries), Ordering::Relaxed),
                Act::Breathe => drop(world.all().await),
            }
        }
        world.drained().await;
        for (nest, count) in laid.into_iter().enumerate() {
            for consumer in CONSUMERS {
                let numbers = world.numbers(consumer, &nest.to_string()).await;
                assert_eq!(numbers, (1..=count).collect::<Vec<_>>(), "{consumer} of {nest} after {acts:?}");
            }
        }
    });
}

fn run(backend: Backend) {
    let config = Config { cases: 12, max_shrink_iters: 20, failure_persistence: None, ..Config::default() };
    let acts = prop::collection::vec(act(), 1..25);
    let outcome = TestRunner::new(config).run(&acts, |acts| {
        stays_in_order(backend, &acts);
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn sqlite_keeps_order_and_effects_through_failures_and_deaths() {
    run(Backend::Sqlite);
}

#[test]
fn postgres_keeps_order_and_effects_through_failures_and_deaths() {
    run(Backend::Postgres);
}
