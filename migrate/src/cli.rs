//! The command line: parse, call, render.
//!
//! Invariant: results go to standard output, everything else to standard error; the exit code says which kind of
//! outcome it was; `--help` lists them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use control::{Side, Who};

use crate::backfill::{self, BackfillOptions};
use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::meter::Meter;
use crate::settings::Settings;
use crate::verify::{self, VerifyOptions};
use crate::{dual_write, output, plan, status, switch};

/// What the exit codes mean.
const EXIT_CODES: &str = "\
Exit codes:
  0  done; or equal
  1  rows differ, there are problems, or it failed on the way
  2  the command line, the settings or the manifest make no sense
  3  refused: it would be wrong now; the message says what to do first
  4  a database or server cannot be reached

The way of a context:
  migrate plan users
  migrate dual-write users on
  migrate backfill users
  migrate verify users
  facade flag set users --reads 10 --reason 'first canary'
  migrate switch users --to service --reason 'canary was clean for a day'";

/// Moves a context's data between two databases in use, and hands ownership over and back.
#[derive(Debug, Parser)]
#[command(name = "migrate", version, after_help = EXIT_CODES)]
struct Cli {
    /// Settings file [default: migrate.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what would move and what stands in the way; changes nothing
    #[command(after_help = "Example:\n  migrate plan users --json | jq .problems")]
    Plan {
        /// The context, as in [extractions.CONTEXT]
        context: String,
    },
    /// Let the owner send every write to the other side, or stop it
    #[command(after_help = "Example:\n  migrate dual-write users on --reason 'begin the extraction'")]
    DualWrite {
        /// The context
        context: String,
        /// Turn it on or off
        state: OnOff,
        #[command(flatten)]
        who: WhoArgs,
    },
    /// Copy the owner's rows to the other side while both are in use; goes on where it stopped
    #[command(
        after_help = "Examples:\n  migrate backfill users\n  migrate backfill users --chunk-rows 200 --throttle-ms 50\n  migrate backfill users --again    # after a changed mapping, or to repair what verify found"
    )]
    Backfill {
        /// The context
        context: String,
        /// Keys per transaction; larger is faster and locks the filled side for longer
        #[arg(long, default_value_t = 1_000, value_name = "N")]
        chunk_rows: u32,
        /// Pause after each chunk
        #[arg(long, default_value_t = 0, value_name = "MS")]
        throttle_ms: u64,
        /// Write every row anew, also where versions agree, and remove rows that the owner does not have
        #[arg(long)]
        again: bool,
    },
    /// Compare every row of both sides, in both directions of the mapping
    #[command(after_help = "Example:\n  migrate verify users --limit 100 --json > differences.json")]
    Verify {
        /// The context
        context: String,
        /// Differences to list; all are counted
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
        /// Seconds for which rows that keep moving are looked at again
        #[arg(long, default_value_t = 10, value_name = "S")]
        patience: u64,
    },
    /// Move ownership to the service, or back to the monolith
    #[command(
        after_help = "Examples:\n  migrate switch users --to service --reason 'canary was clean'\n  migrate switch users --to monolith --reason 'rollback drill'\n\nRun it again after a crash: it ends what was begun."
    )]
    Switch {
        /// The context
        context: String,
        /// The owner to be: service or monolith
        #[arg(long, value_name = "SIDE")]
        to: Side,
        #[command(flatten)]
        who: WhoArgs,
    },
    /// Show where contexts stand; ends a switch that was left behind
    #[command(after_help = "Example:\n  migrate status users --json | jq .flag.writes")]
    Status {
        /// The context [default: all]
        context: Option<String>,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnOff {
    On,
    Off,
}

#[derive(Debug, clap::Args)]
struct WhoArgs {
    /// Why, for the audit trail
    #[arg(long, default_value = "not said")]
    reason: String,
    /// Who, for the audit trail [default: $USER]
    #[arg(long, env = "USER", default_value = "migrate", hide_env_values = true)]
    actor: String,
}

impl WhoArgs {
    fn who(self) -> Who {
        Who::new(self.actor, self.reason)
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    platform::telemetry::init("migrate");
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::print_error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<u8, MigrateError> {
    if let Command::Completions { shell } = cli.command {
        clap_complete::generate(shell, &mut Cli::command(), "migrate", &mut std::io::stdout());
        return Ok(0);
    }
    let settings = Settings::load(cli.config.as_deref())?;
    let json = cli.json;
    let open = |context: &str| Extraction::open(&settings, context);
    let meter = |label: String| if json { Meter::silent() } else { Meter::visible(label) };
    match cli.command {
        Command::Completions { .. } => Ok(0),
        Command::Plan { context } => {
            let plan = open(&context)?.carry_out(plan::run)?;
            output::plan(&plan, json)
        }
        Command::DualWrite { context, state, who } => {
            let (on, who) = (state == OnOff::On, who.who());
            let done = open(&context)?.carry_out(|extraction| dual_write::set(extraction, on, &who))?;
            output::dual_write(&done, json)
        }
        Command::Backfill { context, chunk_rows, throttle_ms, again } => {
            let throttle = Duration::from_millis(throttle_ms);
            let options = BackfillOptions { chunk_rows, throttle, again, ..BackfillOptions::default() };
            let mut meter = meter(format!("backfill {context}"));
            let report =
                open(&context)?.carry_out(|extraction| backfill::run(extraction, options, &mut meter))?;
            output::backfill(&report, json)
        }
        Command::Verify { context, limit, patience } => {
            let options =
                VerifyOptions { limit, patience: Duration::from_secs(patience), ..VerifyOptions::default() };
            let mut meter = meter(format!("verify {context}"));
            let report =
                open(&context)?.carry_out(|extraction| verify::run(extraction, options, &mut meter))?;
            output::verify(&report, json)
        }
        Command::Switch { context, to, who } => {
            let (options, mut meter) = (VerifyOptions::default(), meter(format!("verify {context}")));
            let who = who.who();
            let report = open(&context)?
                .carry_out(|extraction| switch::run(extraction, to, &who, options, &mut meter))?;
            output::switch(&report, json)
        }
        Command::Status { context: Some(context) } => {
            output::status(&open(&context)?.carry_out(status::run)?, json)
        }
        Command::Status { context: None } => {
            let all = settings.extractions.keys().map(|context| open(context)?.carry_out(status::run));
            output::statuses(&all.collect::<Result<Vec<_>, _>>()?, json)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_side_that_is_none_is_a_usage_error() {
        let error = Cli::try_parse_from(["migrate", "switch", "users", "--to", "cloud"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("cloud"), "{error}");
    }
}
