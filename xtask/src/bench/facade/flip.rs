//! From the change of a flag at one facade to its effect at another, under load.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use harness::Binaries;
use harness::http::{Ask, Connection};
use harness::load::open_loop::percentile;
use harness::process::Server;
use pg_harness::Cluster;

use super::peers::{PATH, Setup, set_flag, start, upstream};
use super::{Measured, folder};

const CHANGES: usize = 100;
const CLIENTS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two requests of a client, so that the load leaves room for what is measured.
const PAUSE: Duration = Duration::from_millis(2);

pub(super) fn on_sqlite(binaries: &Binaries) -> Result<Measured> {
    Ok(Measured::at_most(seconds(binaries, folder()?.path(), "path = \"control.db\"")?, 1.0))
}

pub(super) fn on_postgres(binaries: &Binaries) -> Result<Measured> {
    let cluster = Cluster::start()?;
    let database = cluster.create_database()?;
    let control = format!("url = \"{}\"", database.url());
    Ok(Measured::at_most(seconds(binaries, folder()?.path(), &control)?, 0.2))
}

/// The 99th percentile. A request that fails while flags change is an error.
fn seconds(binaries: &Binaries, folder: &Path, control: &str) -> Result<f64> {
    let (_upstream, port) = upstream(folder)?;
    let setup = |name| Setup { name, control, ..Setup::plain(port) };
    let changed = start(binaries, folder, &setup("changed"))?;
    let watched = start(binaries, folder, &setup("watched"))?;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let url = if number % 2 == 0 { changed.url() } else { watched.url() };
            let (url, stop) = (url.map(str::to_owned), Arc::clone(&stop));
            thread::spawn(move || visit(&url?, &stop))
        })
        .collect();
    let measured = delays(&changed, &watched);
    stop.store(true, Ordering::Relaxed);
    let mut requests = 0;
    for client in clients {
        requests += client.join().map_err(|_| anyhow!("a client panicked"))??;
    }
    let mut delays = measured?;
    delays.sort_unstable();
    let of = |share| percentile(&delays, share).context("nothing was measured");
    eprintln!(
        "{CHANGES} changes: p50 {:.0?}, p99 {:.0?}; {requests} requests, none failed",
        of(0.5)?,
        of(0.99)?
    );
    Ok(of(0.99)?.as_secs_f64())
}

fn delays(changed: &Server, watched: &Server) -> Result<Vec<Duration>> {
    let mut delays = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut connection = Connection::to(watched.url()?);
    for number in 0..CHANGES {
        let (side, reads) = if number % 2 == 0 { ("service", "100") } else { ("monolith", "0") };
        let begun = Instant::now();
        set_flag(changed, reads, side)?;
        runtime.block_on(async {
            loop {
                let answer = connection.send(Ask::get(PATH)).await?;
                ensure!(answer.status == 200, "answered {}", answer.status);
                if answer.header("banyan-side") == Some(side) {
                    return Ok(());
                }
                ensure!(begun.elapsed() < PATIENCE, "the change had no effect");
            }
        })?;
        delays.push(begun.elapsed());
    }
    Ok(delays)
}

/// Reads and writes in turn until told to stop; how many were answered.
fn visit(url: &str, stop: &AtomicBool) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut connection, mut answered) = (Connection::to(url), 0);
        while !stop.load(Ordering::Relaxed) {
            let ask = if answered % 2 == 0 {
                Ask::get(PATH)
            } else {
                Ask::new(hyper::Method::PUT, PATH).text("{}")
            };
            let answer = connection.send(ask).await?;
            ensure!(answer.status == 200, "a request failed with {}", answer.status);
            answered += 1;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(answered)
    })
}
