//! The engine's invariant under seeded random interleavings, on real SQLite files.
//!
//! Writers do all that an application may do; followers, copiers and a pruner are interleaved with them at every fail point,
//! crash there, and take over from each other. After every commit of the target independent SQL checks, for every source
//! key of a finished range: the target holds what the mapping makes of the source, or the key has a log row behind the
//! stream's position. In the end both must be equal.
//!
//! That it can fail was tried by undoing one rule at a time; the first seed that found it, of those from 0 on:
//!
//! | rule undone | seed |
//! |---|---|
//! | a chunk leaves out what catch-up touched (`apply::leave_out`) | 25 |
//! | it goes by `next`, not by `pos` | 78 |
//! | `token = mine`, everywhere | 5 |
//! | `pos = as_read` in `set_pos`, alone | none: with the token checked, only one process can move `pos` |
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
//! | rows that collide once a unique index is built are removed | 639 |
//!
//! Fan-out by the trigger instead of by the reader cannot be told apart here: SQLite has one writer at a time, so no
//! transaction is open beside the one that logs.
//!
//! `BANYAN_SEEDS` says how many seeds run; `BANYAN_SEED` repeats one and prints what happened.

mod random;
mod schema;
mod worker;
mod world;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};

use schema::VARIANTS;
use world::World;

const SEEDS: u64 = 20_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn variant(seed: u64) -> &'static schema::Variant {
    &VARIANTS[usize::try_from(seed % VARIANTS.len() as u64).unwrap()]
}

#[test]
fn every_key_is_equal_or_dirty_at_every_commit() {
    if let Some(seed) = number("BANYAN_SEED") {
        let mut world = World::new(variant(seed));
        let outcome = world.run(seed);
        println!("{}", world.history);
        outcome.unwrap();
        return;
    }
    let seeds = number("BANYAN_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut worlds: Vec<World> = VARIANTS.iter().map(World::new).collect();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.load(Ordering::Relaxed) < seed {
                        return;
                    }
                    let variants = worlds.len() as u64;
                    let world = &mut worlds[usize::try_from(seed % variants).unwrap()];
                    if let Err(reason) = world.run(seed) {
                        failed.fetch_min(seed, Ordering::Relaxed);
                        panic!("seed {seed}: {reason}; BANYAN_SEED={seed} shows how\n{}", world.history);
                    }
                }
            });
        }
    });
}
