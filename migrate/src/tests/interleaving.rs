//! Random interleavings of writers, delivery and backfill, from seeds.
//!
//! Invariant: whatever happened in whatever order, a backfill that ran to its end and a delivery that ran dry leave
//! both sides equal, tombstones included, without a second backfill. `BANYAN_SEED` repeats one interleaving.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::backfill::{BackfillOptions, BackfillReport};
use crate::fail_point::FailPoints;
use crate::tests::application::{Application, Delivery};
use crate::tests::world::World;

/// splitmix64: small, seeded, good enough to vary an order of events.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Writers that never break their own unique constraint, and a relay.
struct Players {
    application: Application,
    random: Random,
    users: Vec<(i64, u64)>,
}

const ADDRESSES: u64 = 9;

fn email(number: u64) -> String {
    format!("user{number}@example.com")
}

impl Players {
    fn free_address(&mut self) -> Option<u64> {
        let free: Vec<u64> =
            (0..ADDRESSES).filter(|number| self.users.iter().all(|(_, taken)| taken != number)).collect();
        let choice = self.random.below(free.len().max(1) as u64);
        free.get(usize::try_from(choice).unwrap()).copied()
    }

    fn any_user(&mut self) -> Option<usize> {
        let count = self.users.len() as u64;
        (count > 0).then(|| usize::try_from(self.random.below(count)).unwrap())
    }

    fn step(&mut self) {
        match self.random.below(10) {
            0..2 => self.create(),
            2..5 => self.update(),
            5..6 => self.swap(),
            6..7 => self.delete(),
            _ => {
                self.application.deliver();
            }
        }
    }

    /// Right behind a chunk, every image that waits is one that the chunk has overtaken: none may be blocked.
    fn deliver_what_waits(&mut self, seed: u64) {
        if self.random.below(2) == 0 {
            return;
        }
        loop {
            match self.application.deliver() {
                Delivery::Done => {}
                Delivery::Nothing => return,
                Delivery::Conflict => panic!("seed {seed}: delivery is stuck during the backfill"),
            }
        }
    }

    fn steps(&mut self, at_most: u64) {
        for _ in 0..self.random.below(at_most) {
            self.step();
        }
    }

    fn create(&mut self) {
        if let Some(address) = self.free_address() {
            let id = self.application.create("Ann Other", &email(address));
            self.users.push((id, address));
        }
    }

    fn update(&mut self) {
        if let (Some(user), Some(address)) = (self.any_user(), self.free_address()) {
            self.users[user].1 = address;
            self.application.set_email(self.users[user].0, &email(address));
        }
    }

    fn swap(&mut self) {
        let (Some(one), Some(other)) = (self.any_user(), self.any_user()) else { return };
        if one == other {
            return;
        }
        let ((first, mine), (second, yours)) = (self.users[one], self.users[other]);
        self.application.set_email(first, "between@example.com");
        self.application.set_email(second, &email(mine));
        self.application.set_email(first, &email(yours));
        self.users[one].1 = yours;
        self.users[other].1 = mine;
    }

    fn delete(&mut self) {
        if let Some(user) = self.any_user() {
            let (id, _) = self.users.swap_remove(user);
            self.application.delete(id);
        }
    }
}

/// Writers and delivery go on between the chunks, up to the commit of the last one.
fn backfill(world: &World, players: &Mutex<Players>, to_the_end: bool) -> BackfillReport {
    let (chunk_rows, again, chunks) = {
        let random = &mut players.lock().unwrap().random;
        (1 + random.below(3), random.below(20) == 0, 1 + random.below(3))
    };
    world.backfill(BackfillOptions {
        chunk_rows: u32::try_from(chunk_rows).unwrap(),
        again,
        max_chunks: (!to_the_end).then_some(chunks),
        give_way: Duration::ZERO,
        ..BackfillOptions::default()
    })
}

fn tombstones(conn: &rusqlite::Connection) -> Vec<(String, i64)> {
    let mut statement = conn.prepare("SELECT id, version FROM banyan_tombstones ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

fn play(seed: u64) {
    let mut world = World::new();
    let application = Application::beside(world.folder.path());
    let players = Arc::new(Mutex::new(Players { application, random: Random(seed), users: Vec::new() }));
    let watcher = Arc::clone(&players);
    world.extraction.points = FailPoints::watched(move |point| {
        if point == "backfill_chunk" {
            watcher.lock().unwrap().deliver_what_waits(seed);
        }
        if point == "backfill_chunk" || point == "backfill_rows" {
            watcher.lock().unwrap().steps(6);
        }
    });
    for _ in 0..6 {
        players.lock().unwrap().create();
    }
    let rounds = players.lock().unwrap().random.below(4);
    for _ in 0..rounds {
        world.dual_write(true);
        players.lock().unwrap().steps(10);
        backfill(&world, &players, false);
        players.lock().unwrap().steps(10);
        if players.lock().unwrap().random.below(2) == 0 {
            world.dual_write(false);
            players.lock().unwrap().steps(10);
        }
    }
    world.dual_write(true);
    players.lock().unwrap().steps(10);
    let report = backfill(&world, &players, true);
    assert!(report.done, "seed {seed}: {report:?}");
    players.lock().unwrap().steps(10);
    while world.deliver() == Delivery::Done {}
    assert_eq!(world.count(&world.source, "banyan_intents"), 0, "seed {seed}: delivery is stuck");
    let verified = world.verify();
    assert!(verified.clean(), "seed {seed}: {verified:#?}");
    assert_eq!(tombstones(&world.source), tombstones(&world.target), "seed {seed}");
    let version = |conn: &rusqlite::Connection| -> i64 {
        conn.query_row("SELECT version FROM banyan_contexts", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(version(&world.source), version(&world.target), "seed {seed}");
}

#[test]
fn any_interleaving_of_writers_delivery_and_backfill_ends_equal() {
    if let Some(seed) = std::env::var("BANYAN_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return play(seed);
    }
    (0..250).for_each(play);
}
