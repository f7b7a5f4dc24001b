//! The 99th percentile of the latency, under half the rate that the slowest of facade, nginx and Envoy manages.
//!
//! Invariant: who is measured has a core for itself, and load and upstream are one thread on another. Where they share
//! cores, the latency is that of the kernel's turns, which are of milliseconds, and tells nothing of a proxy.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use harness::Binaries;
use harness::load::open_loop::{OpenLoop, Upstream, percentile};
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

use super::peers::{PATH, Peer, Setup, envoy, facade, nginx, upstream};
use super::{Measured, folder, median, proxy};

/// Rounds per server: 20 s of load in all. Short, because a machine that is shared stands still for milliseconds several
/// times a second, and a round with such a stop in it has no other 99th percentile than that; many, so that most have none.
const ROUNDS: usize = 200;
const ROUND: Duration = Duration::from_millis(100);
/// How long each is asked without pause first.
const SECONDS: u32 = 4;
/// The first requests on a connection: a round is so short that they would be more than a hundredth of it, and the
/// percentile would tell of the making of connections.
const WARM_UP: u32 = 2;
const CONNECTIONS: u32 = 32;

pub(super) fn against_nginx(binaries: &Binaries) -> Result<Measured> {
    let folder = folder()?;
    let (bare, port) = upstream(folder.path())?;
    let theirs = nginx(folder.path(), port)?;
    let ours = facade(binaries, folder.path(), &Setup::plain(port))?;
    let slowest = [most(&ours)?, most(&theirs)?, most(&envoy(folder.path(), port)?)?];
    let rate = slowest.into_iter().fold(f64::INFINITY, f64::min) / 2.0;
    eprintln!("latency at {rate:.0} requests a second, half of what the slowest of three manages");
    drop(bare);
    let mut upstream = Upstream::listen(port, proxy::upstream_answer())?;
    // A thread of its own, because a core that it has chosen is its children's as well.
    let measured = thread::scope(|scope| scope.spawn(|| rounds(&ours, &theirs, rate, &mut upstream)).join());
    Ok(Measured::at_most(measured.map_err(|_| anyhow!("the load panicked"))??, 1.25))
}

fn rounds(ours: &Peer, theirs: &Peer, rate: f64, upstream: &mut Upstream) -> Result<f64> {
    give_cores(&[theirs, ours])?;
    let (mut own, mut other) = (Vec::new(), Vec::new());
    // The first two let both find the upstream again.
    for round in 0..ROUNDS + 2 {
        let mut measure = |peer, all: &mut Vec<f64>| -> Result<()> {
            let p99 = p99(peer, rate, upstream)?;
            all.extend((round > 1).then_some(p99));
            Ok(())
        };
        // In turns, so that neither always follows the other.
        if round % 2 == 0 {
            measure(ours, &mut own)?;
            measure(theirs, &mut other)?;
        } else {
            measure(theirs, &mut other)?;
            measure(ours, &mut own)?;
        }
    }
    let (own, other) = (median(own), median(other));
    eprintln!("p99 in {ROUNDS} rounds, median: facade {:.0} µs, nginx {:.0}", own * 1e6, other * 1e6);
    Ok(own / other)
}

/// One core for the peers, which are measured in turn, and another for this thread.
fn give_cores(peers: &[&Peer]) -> Result<()> {
    let ours = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| ours.is_set(*core));
    let (Some(first), Some(second)) = (cores.next(), cores.next()) else {
        bail!("latency is measured on two cores at least, and this process may use one only");
    };
    let only = |core| {
        let mut set = CpuSet::new();
        set.set(core);
        set
    };
    for peer in peers {
        for thread in fs::read_dir(format!("/proc/{}/task", peer.pid))? {
            let thread = thread?.file_name().to_string_lossy().parse()?;
            sched_setaffinity(Pid::from_raw(thread), &only(first))?;
        }
    }
    Ok(sched_setaffinity(None, &only(second))?)
}

/// Requests a second that it answers when asked without pause.
fn most(peer: &Peer) -> Result<f64> {
    proxy::wrk(&peer.url, 1)?;
    Ok(proxy::wrk(&peer.url, SECONDS)? as f64 / f64::from(SECONDS))
}

fn p99(peer: &Peer, rate: f64, upstream: &mut Upstream) -> Result<f64> {
    let address = peer.url.trim_start_matches("http://").to_owned();
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyz\r\n\
         Accept: application/json\r\nUser-Agent: bench/1.0\r\nX-User-Id: 42\r\n\r\n"
    );
    let (request, duration) = (request.into_bytes(), ROUND);
    let load = OpenLoop { address, request, rate, connections: CONNECTIONS, duration, warm_up: WARM_UP };
    let latencies = load.run(Some(upstream))?;
    Ok(percentile(&latencies, 0.99).context("no request was answered")?.as_secs_f64())
}
