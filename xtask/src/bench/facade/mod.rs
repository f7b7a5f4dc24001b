//! The bars of the facade as a reverse proxy.
//!
//! Invariant: peers are bare and the facade is not: its route, its flag and its sticky key are at work in every request
//! whose cost is measured.

mod cost;
mod failfast;
mod flip;
mod memory;
mod peers;
mod tail;

use anyhow::Result;

use super::{Bars, Measured, median, proxy, ticks, wrk};

/// The binaries that these bars need.
pub(super) const BINARIES: [&str; 1] = ["facade"];

pub(super) const BARS: [Bars; 9] = [
    Bars { names: &["cpu-vs-nginx"], measure: |built| Ok(vec![cost::against_nginx(built)?]) },
    Bars { names: &["cpu-vs-envoy"], measure: |built| Ok(vec![cost::against_envoy(built)?]) },
    Bars { names: &["two-workers"], measure: |built| Ok(vec![cost::of_two_workers(built)?]) },
    Bars { names: &["p99-vs-nginx"], measure: |built| Ok(vec![tail::against_nginx(built)?]) },
    Bars { names: &["memory-idle"], measure: |built| Ok(vec![memory::of_idle_connections(built)?]) },
    Bars { names: &["memory-body"], measure: |built| Ok(vec![memory::of_a_large_body(built)?]) },
    Bars { names: &["failfast"], measure: |built| Ok(vec![failfast::against_not_found(built)?]) },
    Bars { names: &["flip"], measure: |built| Ok(vec![flip::on_sqlite(built)?]) },
    Bars { names: &["flip-postgres"], measure: |built| Ok(vec![flip::on_postgres(built)?]) },
];

/// A folder of its own for one bar.
fn folder() -> Result<tempfile::TempDir> {
    Ok(tempfile::tempdir()?)
}
