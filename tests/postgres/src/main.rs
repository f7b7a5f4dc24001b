//! `pg-harness`: a private cluster to look around in. It prints the URL and keeps the cluster until its input ends.
//!
//! Invariant: however it ends, no server stays behind.

use std::io;

use anyhow::Result;
use pg_harness::Cluster;

fn main() -> Result<()> {
    let cluster = Cluster::start()?;
    println!("listening {}", cluster.url("postgres"));
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
