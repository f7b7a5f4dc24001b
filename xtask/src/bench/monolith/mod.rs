//! The bars of the monolith's trade.
//!
//! Invariant: the monolith is measured as it is shipped, from outside; what it is compared with is `bare-peer`, which sends
//! the same statements.

mod clients;
mod outage;
mod relay;
mod shop;
mod soak;
mod tax;

use anyhow::Result;

use super::{Bars, Measured, median, ticks, wrk};
use crate::shell;
use shop::Backend;
use tax::Request;

pub(super) const BARS: [Bars; 7] = [
    Bars {
        names: &["read-tax-sqlite"],
        measure: |built| Ok(vec![tax::cpu_against_bare_peer(built, Backend::Sqlite, Request::ReadUser)?]),
    },
    Bars {
        names: &["read-tax-postgres"],
        measure: |built| Ok(vec![tax::cpu_against_bare_peer(built, Backend::Postgres, Request::ReadUser)?]),
    },
    Bars {
        names: &["write-tax-sqlite"],
        measure: |built| Ok(vec![tax::cpu_against_bare_peer(built, Backend::Sqlite, Request::PlaceOrder)?]),
    },
    Bars {
        names: &["write-tax-postgres"],
        measure: |built| Ok(vec![tax::cpu_against_bare_peer(built, Backend::Postgres, Request::PlaceOrder)?]),
    },
    Bars { names: &["soak", "memory"], measure: soak::errors_and_memory },
    Bars { names: &["outage"], measure: |built| Ok(vec![outage::seconds_to_full_rate(built)?]) },
    Bars { names: &["relay"], measure: |built| Ok(vec![relay::rate_against_bare_loop(built)?]) },
];

/// Builds what the monolith is measured against, beside the project's binaries.
pub(super) fn build_peer() -> Result<()> {
    shell::run(&mut shell::cargo(&["build", "--release", "--bins", "--package", "bare-peer"]))
}
