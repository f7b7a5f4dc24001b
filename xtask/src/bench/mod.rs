//! `cargo xtask bench`: what the project costs next to the plain tool for the same job, in one run on one machine.
//!
//! Invariant: what is compared was measured here and now, and every bar of a suite is reported; one that could not be
//! measured counts as missed.

mod backfill;
mod facade;
mod import;
mod migrate;
mod monolith;
mod proxy;
mod ticks;
mod tools;
mod wrk;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Subcommand;
use harness::Binaries;

use crate::shell::{Profile, optimised_binaries};

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Suite {
    /// Import, backfill and the facade, against sqlite3, plain SQL and nginx.
    Skeleton {
        /// Only bars with this in their name. The run fails all the same, because the others were not measured.
        #[arg(long)]
        only: Option<String>,
    },
    /// The facade as a reverse proxy: cost against nginx and Envoy, latency, memory, failing fast, changes of flags.
    Facade {
        /// Only bars with this in their name. The run fails all the same, because the others were not measured.
        #[arg(long)]
        only: Option<String>,
    },
    /// The migration engine: copying, verifying, catching up and capturing, against pgcopydb, reladiff and plain SQL.
    Migrate {
        /// Only bars with this in their name. The run fails all the same, because the others were not measured.
        #[arg(long)]
        only: Option<String>,
    },
    /// The monolith under load, during an outage, and against a bare actix and diesel server.
    Monolith {
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

    fn at_least(value: f64, least: f64) -> Self {
        Self { value, least: Some(least), most: f64::INFINITY }
    }

    fn holds(&self) -> bool {
        self.value <= self.most && self.least.is_none_or(|least| self.value >= least)
    }

    fn limit(&self) -> String {
        match self.least {
            Some(least) if self.most == f64::INFINITY => format!("{least:.2}.."),
            Some(least) => format!("{least:.2}..{:.2}", self.most),
            None => format!("{:.2}", self.most),
        }
    }
}

/// Bars that come from one measurement, by name.
struct Bars {
    names: &'static [&'static str],
    /// Yields as many values as there are names, in their order.
    measure: fn(&Binaries) -> Result<Vec<Measured>>,
}

const SKELETON: [Bars; 4] = [
    Bars { names: &["import-vs-sqlite3"], measure: |built| Ok(vec![import::time_against_sqlite3(built)?]) },
    Bars {
        names: &["import-memory"],
        measure: |built| Ok(vec![import::memory_for_fifty_times_the_file(built)?]),
    },
    Bars {
        names: &["backfill-vs-insert-select"],
        measure: |built| Ok(vec![backfill::time_against_insert_select(built)?]),
    },
    Bars { names: &["proxy-vs-nginx"], measure: |built| Ok(vec![proxy::cpu_against_nginx(built)?]) },
];

pub(crate) fn run(suite: &Suite) -> Result<()> {
    tools::install_missing()?;
    let (bars, only): (&[Bars], _) = match suite {
        Suite::Skeleton { only } => (&SKELETON, only),
        Suite::Facade { only } => (&facade::BARS, only),
        Suite::Migrate { only } => (&migrate::BARS, only),
        Suite::Monolith { only } => (&monolith::BARS, only),
    };
    let needed: &[&str] = match suite {
        Suite::Facade { .. } => &facade::BINARIES,
        Suite::Migrate { .. } => &migrate::BINARIES,
        Suite::Skeleton { .. } | Suite::Monolith { .. } => &Binaries::NAMES,
    };
    let profile = if let Suite::Facade { .. } = suite { Profile::Dist } else { Profile::Release };
    let binaries = optimised_binaries(needed, profile)?;
    if let Suite::Monolith { .. } = suite {
        monolith::build_peer()?;
    }
    let short: usize = bars.iter().map(|bars| report(bars, only.as_deref(), &binaries)).sum();
    if short > 0 {
        bail!("{short} of {} bars are short", bars.iter().map(|bars| bars.names.len()).sum::<usize>());
    }
    Ok(())
}

/// Measures, prints a line per bar, and returns how many are short.
fn report(bars: &Bars, only: Option<&str>, binaries: &Binaries) -> usize {
    if only.is_some_and(|only| !bars.names.iter().any(|name| name.contains(only))) {
        bars.names.iter().for_each(|name| println!("bar {name} - - SHORT (not measured)"));
        return bars.names.len();
    }
    match (bars.measure)(binaries) {
        Ok(measured) => {
            for (name, measured) in bars.names.iter().zip(&measured) {
                let verdict = if measured.holds() { "ok" } else { "SHORT" };
                println!("bar {name} {:.2} {} {verdict}", measured.value, measured.limit());
            }
            bars.names.len() - measured.iter().filter(|measured| measured.holds()).count()
        }
        Err(error) => {
            bars.names.iter().for_each(|name| println!("bar {name} - - SHORT ({error:#})"));
            bars.names.len()
        }
    }
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
        assert!(Measured::at_least(0.5, 0.33).holds() && !Measured::at_least(0.3, 0.33).holds());
        assert_eq!(Measured::at_least(0.5, 0.33).limit(), "0.33..");
    }

    #[test]
    fn the_median_is_not_moved_by_one_slow_round() {
        assert_eq!(median(vec![1.0, 100.0, 2.0]), 2.0);
    }
}
