//! CPU time per proxied request.
//!
//! Invariant: who is compared is measured in turn in every round, and the bar is the median of the rounds' ratios, so
//! that a machine which slows down between rounds slows both.

use anyhow::Result;
use harness::Binaries;

use super::peers::{Peer, Setup, envoy, facade, nginx, upstream};
use super::{Measured, folder, median, proxy, ticks};

const ROUNDS: usize = 9;
const SECONDS: u32 = 4;

pub(super) fn against_nginx(binaries: &Binaries) -> Result<Measured> {
    let folder = folder()?;
    let (_upstream, port) = upstream(folder.path())?;
    let theirs = nginx(folder.path(), port)?;
    let ours = facade(binaries, folder.path(), &Setup::plain(port))?;
    Ok(Measured::at_most(ratio(&ours, &theirs)?, 1.25))
}

pub(super) fn against_envoy(binaries: &Binaries) -> Result<Measured> {
    let folder = folder()?;
    let (_upstream, port) = upstream(folder.path())?;
    let theirs = envoy(folder.path(), port)?;
    let ours = facade(binaries, folder.path(), &Setup::plain(port))?;
    Ok(Measured::at_most(ratio(&ours, &theirs)?, 0.6))
}

pub(super) fn of_two_workers(binaries: &Binaries) -> Result<Measured> {
    let folder = folder()?;
    let (_upstream, port) = upstream(folder.path())?;
    let one = facade(binaries, folder.path(), &Setup::plain(port))?;
    let setup = Setup { name: "two", workers: 2, control: "path = \"two.db\"", ..Setup::plain(port) };
    let mut two = facade(binaries, folder.path(), &setup)?;
    two.name = "two workers";
    Ok(Measured::at_most(ratio(&two, &one)?, 1.1))
}

/// What the one costs next to the other.
fn ratio(ours: &Peer, theirs: &Peer) -> Result<f64> {
    for peer in [ours, theirs] {
        proxy::wrk(&peer.url, 1)?;
    }
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let other = micros_per_request(theirs)?;
        let own = micros_per_request(ours)?;
        let (name, their_name) = (ours.name, theirs.name);
        eprintln!("round {round}: {name} {own:.2} µs of CPU per request, {their_name} {other:.2}");
        ratios.push(own / other);
    }
    Ok(median(ratios))
}

fn micros_per_request(peer: &Peer) -> Result<f64> {
    ticks::micros_per_request(peer.pid, || proxy::wrk(&peer.url, SECONDS))
}
