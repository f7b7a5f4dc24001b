//! `cargo xtask demo`: a shop with real data moves its users to their own service under load, and takes them home.
//!
//! Invariant: the load never retries. The run fails if any request failed, if a read showed what was never written,
//! if the owner showed an old state, if an acknowledged write is missing, or if any row differs at the end.

mod books;
mod moves;
mod print;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use harness::load::{Load, LoadSettings};
use harness::process::Job;
use harness::{Cluster, Part, databases, http};
use serde_json::Value;

use print::{Report, millis};

use crate::shell::{Profile, optimised_binaries};

/// How long the load runs at each resting place.
const SECONDS_PER_STEP: u32 = 3;

/// The sides, as commands and answers name them.
const MONOLITH: &str = "monolith";
const SERVICE: &str = "service";

/// All reads are the owner's.
const NOWHERE: &[&str] = &[];
/// Reads are shared, or ownership changes.
const ANYWHERE: &[&str] = &[MONOLITH, SERVICE];

/// What the demo may be told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave everything running at the end, to look around.
    #[arg(long)]
    keep: bool,
    /// Generated users beside the imported ones.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    users: u32,
    /// Where generated users and the load's random numbers begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON document at the end instead of steps.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let binaries = optimised_binaries(&harness::Binaries::NAMES, Profile::Release)?;
    let mut report = Report::new(options.json);
    let cluster = Cluster::prepare(binaries)?;
    let mut demo = Demo { options, report: &mut report, cluster, runs: Vec::new(), faults: Vec::new() };
    let outcome = demo.play();
    let mut faults = std::mem::take(&mut demo.faults);
    if let Err(error) = &outcome {
        faults.push(format!("{error:#}"));
    }
    if options.keep {
        demo.keep();
    } else if outcome.is_ok() {
        demo.report.note("to leave everything running and look around: cargo xtask demo --keep");
    }
    report.end(&faults);
    match faults.len() {
        0 => Ok(()),
        1 => bail!("the demo found a fault"),
        many => bail!("the demo found {many} faults"),
    }
}

struct Demo<'a> {
    options: &'a Options,
    report: &'a mut Report,
    cluster: Cluster,
    /// What follows changes, there and back.
    runs: Vec<Job>,
    faults: Vec<String>,
}

impl Demo<'_> {
    fn play(&mut self) -> Result<()> {
        self.fill()?;
        self.start()?;
        let load = self.start_load()?;
        self.begin_capture(&load)?;
        self.copy_with_a_kill(&load)?;
        self.verify(&load)?;
        self.ramp(&load, 10)?;
        self.ramp(&load, 50)?;
        self.kill_the_service(&load)?;
        self.ramp(&load, 100)?;
        self.switch(&load, SERVICE)?;
        self.switch(&load, MONOLITH)?;
        for percent in [50, 10, 0] {
            self.ramp(&load, percent)?;
        }
        self.close_the_books(load)
    }

    fn fill(&mut self) -> Result<()> {
        self.report.step("Import the sample data and add generated users");
        let started = Instant::now();
        let imported = self.cluster.import()?.ok()?;
        self.report.figure("imported in", millis(started.elapsed()));
        let summary = imported.json()?;
        self.figures(
            &summary,
            &[
                ("/lines", "lines of the file"),
                ("/imported", "  imported"),
                ("/rejected", "  rejected, each with its reason"),
                ("/orders_added", "orders"),
                ("/cancellations_added", "cancellations"),
            ],
        );
        let started = Instant::now();
        self.cluster.seed(self.options.users, self.options.seed)?.ok()?;
        self.report.figure("generated users", self.options.users);
        self.report.figure("generated in", millis(started.elapsed()));
        for table in ["users_users", "catalog_products", "inventory_stock", "orders_orders"] {
            let rows =
                databases::number(&self.cluster.monolith_db(), &format!("SELECT count(*) FROM {table}"))?;
            self.report.figure(&format!("rows in {table}"), rows);
        }
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        self.report.step("Start payment provider, monolith, users service and facade");
        for part in Part::ALL {
            self.cluster.start(part)?;
            let url = self.cluster.server(part)?.url()?.to_owned();
            self.report.figure(part.name(), url);
        }
        let admin = self.cluster.server(Part::Facade)?.admin_url()?.to_owned();
        self.report.figure("admin API of the facade", admin);
        Ok(())
    }

    fn start_load(&mut self) -> Result<Load> {
        self.report.step("Start the load: mixed reads and writes through the facade, never retried");
        let settings =
            LoadSettings { seed: self.options.seed, ..LoadSettings::new(self.cluster.facade_url()) };
        self.report.figure("connections", settings.workers);
        self.report.figure("requests per second", settings.rate);
        let load = Load::start(&settings)?;
        self.rest(&load, NOWHERE)?;
        Ok(load)
    }

    /// Lets the load run for a while and reports what it saw.
    fn rest(&mut self, load: &Load, lagging: &[&str]) -> Result<()> {
        let requests = u64::from(LoadSettings::new("").rate * SECONDS_PER_STEP);
        load.wait_for_requests(requests, Duration::from_secs(120))?;
        self.lap(load, lagging);
        Ok(())
    }

    /// Reports what the load saw since the last report, and notes what must not be: only the sides that lag behind the owner in
    /// this lap may show what is stale.
    fn lap(&mut self, load: &Load, lagging: &[&str]) {
        let lap = load.lap();
        self.report.lap(&lap);
        let due: u64 = lagging.iter().filter_map(|side| lap.stale_on.get(*side)).sum();
        if lap.faults() > 0 || lap.stale > due {
            self.faults.push(lap.faults_in_words());
        }
    }

    /// Which side answers a read of each of some users. A hundred of them show any step of the ramp.
    fn sides_of_some_users(&self) -> Result<Vec<Option<String>>> {
        let side = |id: u32| -> Result<Option<String>> {
            let ask = http::Ask::get(format!("/api/v1/users/{id}"));
            Ok(http::call(self.cluster.facade_url(), ask)?.header("banyan-side").map(str::to_owned))
        };
        (1..=100).map(side).collect()
    }

    /// Puts figures of a command's JSON into the report, by name.
    fn figures(&mut self, from: &Value, names: &[(&str, &str)]) {
        for (pointer, name) in names {
            if let Some(value) = from.pointer(pointer) {
                self.report.figure(name, value.clone());
            }
        }
    }

    fn keep(self) {
        let facade = self.cluster.facade_url().to_owned();
        let folder = self.cluster.folder().display().to_string();
        let pids: Vec<String> = self.cluster.keep().iter().map(u32::to_string).collect();
        self.report.step("All servers keep running; `migrate run users` goes on with the copy");
        self.report.figure("facade", facade);
        self.report.figure("settings, databases and logs", folder);
        self.report.figure("stop it with", format!("kill {}", pids.join(" ")));
    }
}
