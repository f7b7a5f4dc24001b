//! The application: it writes without end, and knows nothing of the copy.
//!
//! Invariant: the same seed writes the same statements; a statement that a constraint refuses, or that a server which went away
//! never answered, is no fault of the copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use postgres::{Client, NoTls};

use super::world::{End, Engine, Session, World, until};

/// Pause between two transactions, so that two cores serve writers and copy alike.
const PAUSE: Duration = Duration::from_millis(2);

/// A writer at work; it ends with its handle.
pub(crate) struct Application {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Application {
    /// Writes to the source's `rows` items and its labels.
    pub(crate) fn start(world: &World, rows: u32, seed: u64) -> Self {
        let mut chance = Chance(seed | 1);
        Self::on(world, End::Source, move |session| {
            let written = session.run(&transaction(&mut chance, rows));
            std::thread::sleep(PAUSE);
            written
        })
    }

    fn on(
        world: &World,
        end: End,
        mut work: impl FnMut(&mut Session) -> Result<(), String> + Send + 'static,
    ) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut session = world.connect(end);
        let url = (world.engine == Engine::Postgres).then(|| world.place(end));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&written));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match work(&mut session) {
                    Ok(()) => drop(count.fetch_add(1, Ordering::Relaxed)),
                    Err(_) => connect_again(&mut session, url.as_deref()),
                }
            }
        });
        Self { stop, written, thread: Some(thread) }
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits for so many transactions more.
    pub(crate) fn work(&self, transactions: u64) {
        let goal = self.written() + transactions;
        until("the application writes", || self.written() >= goal);
    }

    /// Ends the writing.
    pub(crate) fn end(mut self) {
        self.join();
        assert!(self.written() > 0, "nothing was written");
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the application failed");
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.join();
    }
}

fn connect_again(session: &mut Session, url: Option<&str>) {
    if let (Session::Postgres(client), Some(url)) = (session, url)
        && client.is_closed()
        && let Ok(fresh) = Client::connect(url, NoTls)
    {
        **client = fresh;
    }
}

/// Inserts, updates, deletes, keys that change, unique values that move one by one and fifty at once.
fn transaction(chance: &mut Chance, rows: u32) -> String {
    let (key, number) = (1 + chance.below(rows), chance.below(1_000_000));
    match chance.below(10) {
        0 | 1 => format!("UPDATE item SET name = 'changed {number}', price = price + 1 WHERE id = {key}"),
        2 => format!("DELETE FROM item WHERE id = {key}"),
        3 | 4 => {
            format!("INSERT INTO item VALUES ({key}, 'c{key}', 'again {number}', 0) ON CONFLICT DO NOTHING")
        }
        5 => format!("UPDATE item SET id = id + 100000 WHERE id = {key}"),
        6 => format!("UPDATE item SET id = id - 100000 WHERE id = {key} + 100000"),
        7 => format!(
            "BEGIN; UPDATE item SET code = 'c' || id WHERE code LIKE 'h%'; \
             UPDATE item SET code = 'h' || (id - {key}) WHERE id BETWEEN {key} AND {key} + 49; COMMIT"
        ),
        8 => format!(
            "BEGIN; UPDATE item SET code = 'c' || id WHERE code = 'h{0}'; \
             UPDATE item SET code = 'h{0}' WHERE id = {key}; COMMIT",
            number % 50
        ),
        _ => format!(
            "BEGIN; DELETE FROM label WHERE code = 'l{0}'; INSERT INTO label VALUES ('l{0}', '{number}'); COMMIT",
            number % 30
        ),
    }
}

/// Repeatable numbers (xorshift).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from((self.0 >> 20) % u64::from(limit)).unwrap()
    }
}
