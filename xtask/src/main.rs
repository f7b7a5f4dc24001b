//! `cargo xtask`: the demo, all tests, all checks and the benchmarks, each in one command.
//!
//! Invariant: it runs the project's binaries and Cargo only; it links none of the servers.

mod bench;
mod check;
mod demo;
mod docs;
mod mutants;
mod shell;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Tasks of the project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Moves the users context of a loaded shop out to its own service and back, under load, and proves every step.
    Demo(demo::Options),
    /// Builds the binaries and runs all tests, against a PostgreSQL server that lives as long as the run.
    Test {
        /// Only repeats this interleaving of writers, chunks, catch-up, crashes and other workers, on SQLite and on PostgreSQL, and
        /// shows its history
        #[arg(long)]
        seed: Option<u64>,
        /// Passed on to `cargo test --workspace`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Formatting, lints and docs with warnings as errors; licences, bans and sources of dependencies.
    Check,
    /// Writes the committed files that are made from the sources: the settings of every program, and the context map.
    Docs,
    /// Undoes one rule of copying data in use at a time, and fails unless a test notices each.
    Mutants(mutants::Options),
    /// Measures against fixed bars and fails if one is missed.
    Bench {
        #[command(subcommand)]
        suite: bench::Suite,
    },
}

fn main() -> ExitCode {
    let outcome = run(Arguments::parse().task);
    if let Err(error) = &outcome {
        eprintln!("error: {error:#}");
    }
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Demo(options) => demo::run(&options),
        Task::Test { seed: Some(seed), arguments } => test::repeat(seed, &arguments),
        Task::Test { seed: None, arguments } => test::run_all(&arguments),
        Task::Check => check::run_all(),
        Task::Docs => docs::write_all(),
        Task::Mutants(options) => mutants::run_all(&options),
        Task::Bench { suite } => bench::run(&suite),
    }
}
