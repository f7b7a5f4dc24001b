//! The load generator: mixed reads and writes through one address, each read checked against the last acknowledged
//! write of its key.
//!
//! Invariant: every key belongs to one worker, which has at most one request in flight; so what a read must show is
//! known. Nothing is retried: a request that fails is a failure, whatever caused it.

mod book;
mod keys;
pub mod open_loop;
mod people;
mod random;
mod stats;
mod worker;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::http::{self, Ask, Connection};

pub use book::{Book, KeyEntry};
pub use stats::{Histogram, Stats};

use keys::Key;
use worker::{Shared, Worker};

/// How much load, and on what.
#[derive(Debug, Clone)]
pub struct LoadSettings {
    /// Base URL of the system under load.
    pub base_url: String,
    /// Connections, each with a worker of its own.
    pub workers: u32,
    /// Requests per second, of all workers together.
    pub rate: u32,
    /// Existing users that each worker takes for its own at the start.
    pub adopt: u32,
    /// Where the random numbers begin.
    pub seed: u64,
}

impl LoadSettings {
    /// A load that two cores carry beside the system itself.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self { base_url: base_url.into(), workers: 8, rate: 400, adopt: 40, seed: 1 }
    }
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Vec<Worker>>>>,
    total: Mutex<Stats>,
}

/// What a load did from beginning to end.
#[derive(Debug)]
pub struct LoadReport {
    /// All laps together.
    pub total: Stats,
    /// Every acknowledged write.
    pub book: Book,
}

impl Load {
    /// Starts the load and returns once every worker has been answered at least once.
    pub fn start(settings: &LoadSettings) -> Result<Self> {
        let products = read_products(&settings.base_url)?;
        ensure!(!products.is_empty(), "there is no product to order; import some before the load");
        let shared = Arc::new(Shared::new(settings.clone(), products));
        let workers = adopt(&shared)?;
        let thread = std::thread::Builder::new().name("load".into()).spawn({
            let shared = Arc::clone(&shared);
            move || drive(&shared, workers)
        })?;
        let load = Self { shared, thread: Some(thread), total: Mutex::new(Stats::default()) };
        load.wait_for_requests(u64::from(settings.workers), Duration::from_secs(30))?;
        Ok(load)
    }

    /// Waits until that many more requests have been answered or have failed.
    pub fn wait_for_requests(&self, count: u64, limit: Duration) -> Result<()> {
        let goal = self.shared.answered.load(Ordering::Relaxed) + count;
        crate::wait::until(&format!("{count} more requests under load"), limit, || {
            Ok((self.shared.answered.load(Ordering::Relaxed) >= goal).then_some(()))
        })
    }

    /// Requests that failed so far, lies among them.
    pub fn faults(&self) -> u64 {
        lock(&self.total).faults() + self.shared.stats().faults()
    }

    /// What happened since the last lap.
    pub fn lap(&self) -> Stats {
        let lap = std::mem::take(&mut *self.shared.stats());
        lock(&self.total).add(&lap);
        lap
    }

    /// Lets every worker finish its request, and ends the load.
    pub fn stop(mut self) -> Result<LoadReport> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the load was stopped already")?;
        let workers = thread.join().map_err(|_| anyhow!("the load generator panicked"))??;
        self.lap();
        let mut book = Book::default();
        for worker in workers {
            worker.write_into(&mut book);
        }
        let total = lock(&self.total).clone();
        Ok(LoadReport { total, book })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// Takes the value also from a lock that a panicking thread left behind; the panic itself is reported elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn drive(shared: &Arc<Shared>, workers: Vec<Worker>) -> Result<Vec<Worker>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tasks: Vec<_> = workers.into_iter().map(|worker| tokio::spawn(worker.run())).collect();
        let mut ended = Vec::new();
        for task in tasks {
            ended.push(task.await.context("a worker of the load panicked")?);
        }
        shared.stop.store(true, Ordering::Relaxed);
        Ok(ended)
    })
}

fn read_products(base_url: &str) -> Result<Vec<Value>> {
    let page = http::get_json(base_url, "/api/v1/products?limit=200")?;
    Ok(page.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
}

/// Deals existing users out to the workers, page by page, and remembers the cursors for listings under load.
fn adopt(shared: &Arc<Shared>) -> Result<Vec<Worker>> {
    let settings = &shared.settings;
    let mut workers: Vec<Worker> =
        (0..settings.workers).map(|number| Worker::new(Arc::clone(shared), number)).collect();
    let wanted = usize::try_from(settings.workers * settings.adopt)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = Connection::to(&settings.base_url);
        let (mut cursors, mut seen, mut cursor) = (Vec::new(), 0, None::<String>);
        while seen < wanted {
            let suffix = cursor.as_ref().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let answer = connection.send(Ask::get(format!("/api/v1/users?limit=200{suffix}"))).await?;
            ensure!(
                answer.status == 200,
                "the list of users was answered {}: {}",
                answer.status,
                answer.text()
            );
            let page = answer.json()?;
            for user in page.get("items").and_then(Value::as_array).into_iter().flatten().take(wanted - seen)
            {
                let slot = seen % workers.len();
                if let Some(worker) = workers.get_mut(slot) {
                    worker.take(Key::adopted(user.clone())?);
                }
                seen += 1;
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => cursors.push(next.to_owned()),
                None => break,
            }
            cursor = cursors.last().cloned();
        }
        shared.remember_cursors(cursors);
        Ok(workers)
    })
}
