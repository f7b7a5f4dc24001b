//! `pg-harness`: a private cluster to look around in. It prints the URL and keeps the cluster until its input ends.
//!
//! Invariant: however it ends, no server stays behind.

use std::io;

use anyhow::Result;
use pg_harness::Cluster;

const USAGE: &str =
    "Starts a private PostgreSQL server, prints its URL, and keeps it until standard input ends.

Usage: pg-harness

Example:
  sleep infinity | pg-harness";

fn main() -> Result<()> {
    if std::env::args().len() > 1 {
        println!("{USAGE}");
        return Ok(());
    }
    let cluster = Cluster::start()?;
    println!("listening {}", cluster.url("postgres"));
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
