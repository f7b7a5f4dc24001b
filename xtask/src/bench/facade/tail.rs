//! The 99th percentile of the latency, under a rate that leaves both servers half idle.

use std::time::Duration;

use anyhow::{Context, Result};
use harness::Binaries;
use harness::load::open_loop::{OpenLoop, percentile};

use super::peers::{PATH, Peer, Setup, facade, nginx, upstream};
use super::{Measured, folder, median, proxy};

/// Rounds per server, of so many seconds each: 20 s of load in all. Short, so that both sides of a round meet the same
/// machine, and many, so that what else ran meanwhile is not in the median.
const ROUNDS: usize = 20;
const SECONDS: u32 = 1;
/// How long each is asked without pause first.
const WARM_UP: u32 = 4;
const CONNECTIONS: u32 = 32;

pub(super) fn against_nginx(binaries: &Binaries) -> Result<Measured> {
    let folder = folder()?;
    let (_upstream, port) = upstream(folder.path())?;
    let theirs = nginx(folder.path(), port)?;
    let ours = facade(binaries, folder.path(), &Setup::plain(port))?;
    let rate = f64::min(most(&ours)?, most(&theirs)?) / 2.0;
    eprintln!("latency at {rate:.0} requests a second, half of what the slower one manages");
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let (other, own) = (p99(&theirs, rate)?, p99(&ours, rate)?);
        eprintln!("round {round}: p99 of the facade {own:.0?}, of nginx {other:.0?}");
        ratios.push(own.as_secs_f64() / other.as_secs_f64());
    }
    Ok(Measured::at_most(median(ratios), 1.25))
}

/// Requests a second that it answers when asked without pause.
fn most(peer: &Peer) -> Result<f64> {
    proxy::wrk(&peer.url, 1)?;
    Ok(proxy::wrk(&peer.url, WARM_UP)? as f64 / f64::from(WARM_UP))
}

fn p99(peer: &Peer, rate: f64) -> Result<Duration> {
    let address = peer.url.trim_start_matches("http://").to_owned();
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyz\r\n\
         Accept: application/json\r\nUser-Agent: bench/1.0\r\nX-User-Id: 42\r\n\r\n"
    );
    let (request, duration) = (request.into_bytes(), Duration::from_secs(u64::from(SECONDS)));
    let latencies = OpenLoop { address, request, rate, connections: CONNECTIONS, duration }.run()?;
    percentile(&latencies, 0.99).context("no request was answered")
}
