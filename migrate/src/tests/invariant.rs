//! The engine's invariant under seeded random interleavings, on real SQLite files and a real PostgreSQL server.
//!
//! Writers do all that an application may do; followers, copiers and a pruner are interleaved with them at every fail point,
//! crash there, and take over from each other. After every commit of the target independent SQL checks, for every source
//! key of a finished range: the target holds what the mapping makes of the source, or the key has a log row behind the
//! stream's position. In the end both must be equal.
//!
//! That it can fail is tried by undoing one rule at a time: `cargo xtask mutants`, whose patches stand in `tests/mutants`.
//! The first seed on SQLite that found each, of those from 0 on:
//!
//! | rule undone | seed |
//! |---|---|
//! | a chunk leaves out what catch-up touched (`apply::leave_out`) | 25 |
//! | it goes by `next`, not by `pos` | 78 |
//! | `token = mine`, everywhere | 5 |
//! | `pos = as_read` in `set_pos`, alone | none: with the token checked, only one process can move `pos`; a test of each driver has it |
//! | BEFORE triggers log what REPLACE displaces | 1 |
//! | pruning keeps what the snapshots of chunks need | 25 (refused by `Log::standing`, and 25 without it, too) |
//! | pruning stops at the least position needed | 6 |
//! | log rows of a joined table are fanned out | 69 |
//! | `covers()` behind a chunk's registration | 38 (by `Log::standing`; 315 without it) |
//! | a chunk registers its snapshot | 25 |
//! | an UPDATE logs the new key as well as the old | 0 |
//! | a batch in the way of which a newer chunk put a row begins anew | 471 |
//! | conflicting rows are taken out and put back whole | 15 |
//! | the key map decides what is removed | 2 |
//! | rows that collide once a unique index is built are removed | none of the first 2,000; a test of the driver has it |
//!
//! Fan-out by the trigger instead of by the reader cannot be told apart on SQLite: it has one writer at a time, so no
//! transaction is open beside the one that logs. On PostgreSQL transactions stay open beside the workers, are prepared,
//! and commit late: seed 552 finds fan-out by the trigger, seed 24 positions by the greatest transaction number.
//!
//! `BANYAN_SEEDS` says how many seeds run on SQLite, `BANYAN_PG_SEEDS` on PostgreSQL; `BANYAN_SEED` or `BANYAN_PG_SEED`
//! repeats one and prints what happened.

mod postgres;
pub(super) mod random;
mod sqlite;
mod worker;
mod world;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use world::{Ends, World};

/// Seeds tried if nothing else is asked for.
const SEEDS_ON_SQLITE: u64 = 20_000;
const SEEDS_ON_POSTGRES: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn position(seed: u64, count: usize) -> usize {
    usize::try_from(seed % count as u64).unwrap()
}

/// Repeats one seed and prints what happened.
fn repeat<E: Ends>(mut world: World<E>, seed: u64) {
    let outcome = world.run(seed);
    println!("{}", world.history);
    outcome.unwrap();
}

#[test]
fn every_key_is_equal_or_dirty_at_every_commit() {
    if let Some(seed) = number("BANYAN_SEED") {
        let mut worlds = sqlite::worlds();
        return repeat(worlds.swap_remove(position(seed, worlds.len())), seed);
    }
    let seeds = number("BANYAN_SEEDS").unwrap_or(SEEDS_ON_SQLITE);
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut worlds = sqlite::worlds();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.load(Ordering::Relaxed) < seed {
                        return;
                    }
                    let place = position(seed, worlds.len());
                    let world = &mut worlds[place];
                    if let Err(reason) = world.run(seed) {
                        failed.fetch_min(seed, Ordering::Relaxed);
                        panic!("seed {seed}: {reason}; BANYAN_SEED={seed} shows how\n{}", world.history);
                    }
                }
            });
        }
    });
}

#[test]
fn every_key_of_postgres_is_equal_or_dirty_at_every_commit() {
    if let Some(seed) = number("BANYAN_PG_SEED") {
        return repeat(postgres::world(position(seed, postgres::VARIANTS)), seed);
    }
    let seeds = number("BANYAN_PG_SEEDS").unwrap_or(SEEDS_ON_POSTGRES);
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    // A world waits for its server half of the time.
    let threads = std::thread::available_parallelism().map_or(2, usize::from) * 3 / 2;
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, postgres::VARIANTS) {
            scope.spawn(|| {
                // A variant's seeds follow each other, since a world has about twenty connections.
                while let Some(variant) = postgres::variant(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut world = postgres::world(variant);
                    for seed in (0..seeds).skip(variant).step_by(postgres::VARIANTS) {
                        if failed.load(Ordering::Relaxed) {
                            return;
                        }
                        if let Err(reason) = world.run(seed) {
                            failed.store(true, Ordering::Relaxed);
                            panic!(
                                "seed {seed}: {reason}; BANYAN_PG_SEED={seed} shows how\n{}",
                                world.history
                            );
                        }
                    }
                }
            });
        }
    });
}
