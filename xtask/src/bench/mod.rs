//! `cargo xtask bench`: what the project costs next to the plain tool for the same job, in one run on one machine.
//!
//! Invariant: every bar is a ratio of two measurements taken here and now, and every bar of a suite is reported; one
//! that could not be measured counts as missed.

mod backfill;
mod import;
mod proxy;
mod ticks;
mod tools;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Subcommand;
use harness::Binaries;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Suite {
    /// Import, backfill and the facade, against sqlite3, plain SQL and nginx.
    Skeleton {
        /// Only bars with this in their name. The run fails all the same, because the others were not measured.
        #[arg(long)]
        only: Option<String>,
    },
}

/// A measured value and the limits it must keep.
#[derive(Debug, Clone, Copy)]
struct Measured {
    value: f64,
    least: Option<f64>,
    most: f64,
}

impl Measured {
    fn at_most(value: f64, most: f64) -> Self {
        Self { value, least: None, most }
    }

    fn holds(&self) -> bool {
        self.value <= self.most && self.least.is_none_or(|least| self.value >= least)
    }

    fn limit(&self) -> String {
        match self.least {
            Some(least) => format!("{least:.2}..{:.2}", self.most),
            None => format!("{:.2}", self.most),
        }
    }
}

type Measure = fn(&Binaries) -> Result<Measured>;

/// The bars of the suite, by name.
const SKELETON: [(&str, Measure); 4] = [
    ("import-vs-sqlite3", import::time_against_sqlite3),
    ("import-memory", import::memory_for_fifty_times_the_file),
    ("backfill-vs-insert-select", backfill::time_against_insert_select),
    ("proxy-vs-nginx", proxy::cpu_against_nginx),
];

pub(crate) fn run(suite: &Suite) -> Result<()> {
    let Suite::Skeleton { only } = suite;
    tools::install_missing()?;
    let binaries = crate::shell::release_binaries()?;
    let mut short = 0;
    for (name, measure) in SKELETON {
        if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            println!("bar {name} - - SHORT (not measured)");
            short += 1;
            continue;
        }
        match measure(&binaries) {
            Ok(measured) => {
                let verdict = if measured.holds() { "ok" } else { "SHORT" };
                println!("bar {name} {:.2} {} {verdict}", measured.value, measured.limit());
                short += u32::from(!measured.holds());
            }
            Err(error) => {
                println!("bar {name} - - SHORT ({error:#})");
                short += 1;
            }
        }
    }
    if short > 0 {
        bail!("{short} of {} bars are short", SKELETON.len());
    }
    Ok(())
}

/// The middle value; of an even number, the upper one of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn ratio(ours: Duration, theirs: Duration) -> f64 {
    ours.as_secs_f64() / theirs.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_its_limit_holds_and_one_beyond_does_not() {
        assert!(Measured::at_most(4.0, 4.0).holds());
        assert!(!Measured::at_most(4.01, 4.0).holds());
        assert!(!Measured { value: 0.7, least: Some(0.8), most: 1.2 }.holds());
        assert!(
            !Measured::at_most(f64::NAN, 4.0).holds(),
            "a value that could not be computed is no success"
        );
    }

    #[test]
    fn the_median_is_not_moved_by_one_slow_round() {
        assert_eq!(median(vec![1.0, 100.0, 2.0]), 2.0);
    }
}
