//! The command line: parse, call, render.
//!
//! Invariant: results go to standard output, everything else to standard error; the exit code says which kind of
//! outcome it was; `--help` lists them.

mod arguments;
mod captured;
mod copying;
mod drafting;
mod planning;
mod proving;
mod standing;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use control::Side;
use platform::settings::document;
use platform::table::{print_line, print_written};

use crate::backfill::{self, BackfillOptions};
use crate::engine::run::{Parts, Until};
use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::meter::Meter;
use crate::settings::{DEFAULT_FILE, Settings};
use crate::verify::{self, VerifyOptions};
use crate::{dual_write, output, plan, status, switch};
use arguments::{
    BackfillArgs, CaptureCommand, InitArgs, OnOff, PauseArgs, PlanArgs, RepairArgs, ResumeArgs, RunArgs,
    StatusArgs, StreamArgs, ThrottleArgs, VerifyArgs, WhoArgs,
};
use captured::{Captured, is_captured, needs_no_capture, with_driver};

use copying::What;

pub(crate) use copying::CaptureChange;
pub(crate) use planning::CapturePlan;
pub(crate) use standing::{Chunks, Run, Standing};

/// Keys per transaction of a backfill by dual-write.
const CHUNK_ROWS: u32 = 1_000;
/// How often `status --watch` looks.
const WATCH: Duration = Duration::from_secs(1);

/// What the exit codes mean.
const EXIT_CODES: &str = "\
Exit codes:
  0  done; or equal
  1  rows differ, there are problems, or it failed or was stopped on the way
  2  the command line, the settings or the manifest make no sense
  3  refused: it would be wrong now; the message says what to do first
  4  a database or server cannot be reached

The way of a context, by change capture (the application is not changed):
  migrate init --source shop.db --context users   # a draft of extraction.toml
  migrate plan users                              # what stands in the way
  migrate capture install users
  migrate run users                               # backfill and catch-up; beside it:
  migrate status users --watch
  migrate throttle users --rows-per-second 20000
  migrate verify users --html report.html
  migrate repair users --dry-run
  migrate capture remove users

The way of a context, by dual-write:
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
    /// Write a draft of extraction.toml from the tables of a database
    #[command(
        after_help = "Examples:\n  migrate init --source shop.db --context users --dry-run\n  migrate init --source postgres://reader@db/shop --context users --tables users,addresses"
    )]
    Init(InitArgs),
    /// Show what would move and what stands in the way, at both ends; changes nothing; exit code 1 if there are problems
    #[command(
        after_help = "Examples:\n  migrate plan users\n  migrate plan users --deep    # reads every row of large tables, too\n  migrate plan users --back    # the way back, by the [[inverse]] mappings\n  migrate plan users --json | jq '.findings[] | select(.level == \"problem\")'\n\nA context under dual-write is planned as such: `jq .problems` lists what stands in its way."
    )]
    Plan(PlanArgs),
    /// Log which keys change at the source, or stop it
    #[command(subcommand, arg_required_else_help = true)]
    Capture(CaptureCommand),
    /// Copy by change capture: backfill and catch-up in one process, until interrupted; goes on where it stopped
    #[command(
        after_help = "Examples:\n  migrate run users\n  migrate run users --workers 4 --until-caught-up\n  migrate run users --back --adopt    # the way back: the monolith's rows are the older copy"
    )]
    Run(RunArgs),
    /// Copy the owner's rows to the other side while both are in use; goes on where it stopped
    #[command(
        after_help = "Examples:\n  migrate backfill users\n  migrate backfill users --chunk-rows 200 --throttle-ms 50\n  migrate backfill users --again    # dual-write: after a changed mapping, or to repair what verify found"
    )]
    Backfill(BackfillArgs),
    /// Change capture: apply what changes, until interrupted, without a backfill
    #[command(after_help = "Example:\n  migrate catch-up users --until-caught-up")]
    CatchUp(RunArgs),
    /// Show where contexts stand; ends a switch that was left behind
    #[command(
        after_help = "Examples:\n  migrate status users --watch\n  migrate status users --json | jq .flag.writes"
    )]
    Status(StatusArgs),
    /// Change capture: let a run rest
    #[command(after_help = "Example:\n  migrate pause users --backfill-only")]
    Pause(PauseArgs),
    /// Change capture: let a run that rests go on
    #[command(after_help = "Example:\n  migrate resume users")]
    Resume(ResumeArgs),
    /// Change capture: limit a run while it goes on; without limits it shows them
    #[command(
        after_help = "Examples:\n  migrate throttle users --workers 1 --rows-per-second 5000\n  migrate throttle users --load-query \"SELECT count(*) FROM pg_stat_activity WHERE state = 'active'\" --load-limit 20\n  migrate throttle users --clear"
    )]
    Throttle(ThrottleArgs),
    /// Compare every row of both sides while both are in use
    #[command(
        after_help = "Examples:\n  migrate verify users --limit 100 --json > differences.json\n  migrate verify users --html report.html\n  migrate verify users --sample 5 --seed 7\n  migrate verify users --continuous --load 10"
    )]
    Verify(VerifyArgs),
    /// Change capture: write the source's rows over those that verification confirmed to differ
    #[command(
        after_help = "Examples:\n  migrate repair users --dry-run\n  migrate repair users --log repaired.jsonl"
    )]
    Repair(RepairArgs),
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
    /// Show every setting with its value and origin
    #[command(after_help = "Example:\n  migrate config --markdown")]
    Config {
        /// Print the documentation of all settings instead
        #[arg(long)]
        markdown: bool,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    platform::telemetry::init("migrate");
    let cli = Cli::parse();
    match run(cli).and_then(needs_written) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::print_error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// A result that nobody can read is none, whatever it was.
fn needs_written(code: u8) -> Result<u8, MigrateError> {
    match platform::table::all_written() {
        Ok(()) => Ok(code),
        Err(error) => Err(MigrateError::failed(error.to_string())),
    }
}

/// Runs a command line given as words, as [`main`] does, for tests.
#[cfg(test)]
pub(crate) fn run_words(words: Vec<String>) -> Result<u8, MigrateError> {
    run(Cli::try_parse_from(words).map_err(|error| MigrateError::Usage(error.to_string()))?)
}

fn run(cli: Cli) -> Result<u8, MigrateError> {
    let (config, json) = (cli.config.as_deref(), cli.json);
    match cli.command {
        Command::Completions { shell } => {
            print_written(|mut out| clap_complete::generate(shell, &mut Cli::command(), "migrate", &mut out));
            Ok(0)
        }
        Command::Config { markdown: true } => {
            print_line(document::<Settings>("migrate", DEFAULT_FILE).trim_end());
            Ok(0)
        }
        Command::Config { .. } => {
            platform::settings::print(&Settings::with_origins(config)?.rows, json);
            Ok(0)
        }
        Command::Init(arguments) => drafting::init(&arguments, json),
        command => carry_out(&Settings::load(config)?, command, json),
    }
}

fn carry_out(settings: &Settings, command: Command, json: bool) -> Result<u8, MigrateError> {
    match command {
        Command::Init(_) | Command::Config { .. } | Command::Completions { .. } => Ok(0),
        Command::Plan(arguments) => plan(settings, &arguments, json),
        Command::Capture(command) => copying::capture(settings, command, json),
        Command::Run(RunArgs { stream, how, until_caught_up }) => {
            copying::run(settings, &stream, &how, what(Parts::Both, until_caught_up), json)
        }
        Command::CatchUp(RunArgs { stream, how, until_caught_up }) => {
            copying::run(settings, &stream, &how, what(Parts::CatchUp, until_caught_up), json)
        }
        Command::Backfill(arguments) => backfill(settings, &arguments, json),
        Command::Status(arguments) => status(settings, &arguments, json),
        Command::Pause(arguments) => copying::pause(settings, &arguments, json),
        Command::Resume(arguments) => copying::resume(settings, &arguments, json),
        Command::Throttle(arguments) => copying::throttle(settings, &arguments, json),
        Command::Verify(arguments) => verify(settings, &arguments, json),
        Command::Repair(arguments) => proving::repair(settings, &arguments, json),
        Command::DualWrite { context, state, who } => {
            let (on, who) = (state == OnOff::On, who.who());
            let extraction = open(settings, &context)?;
            if on {
                needs_no_capture(settings, &context)?;
            }
            let done = extraction.carry_out(|extraction| dual_write::set(extraction, on, &who))?;
            output::dual_write(&done, json)
        }
        Command::Switch { context, to, who } => {
            let mut meter = meter(format!("verify {context}"), json);
            let (options, who) = (VerifyOptions::default(), who.who());
            let report = open(settings, &context)?
                .carry_out(|extraction| switch::run(extraction, to, &who, options, &mut meter))?;
            output::switch(&report, json)
        }
    }
}

/// A context served by dual-write.
fn open(settings: &Settings, context: &str) -> Result<Extraction, MigrateError> {
    Extraction::open(settings, context)
}

fn meter(label: String, json: bool) -> Meter {
    if json { Meter::silent() } else { Meter::visible(label) }
}

fn what(parts: Parts, until_caught_up: bool) -> What {
    let until = if until_caught_up { Until::CaughtUp } else { Until::Stopped };
    What { parts, until, chunk: None, again: false }
}

fn plan(settings: &Settings, arguments: &PlanArgs, json: bool) -> Result<u8, MigrateError> {
    let context = &arguments.stream.context;
    if arguments.stream.back || is_captured(settings, context)? {
        return planning::plan(settings, arguments, json);
    }
    open(settings, context)?.carry_out(plan::run).and_then(|plan| output::plan(&plan, json))
}

fn backfill(settings: &Settings, arguments: &BackfillArgs, json: bool) -> Result<u8, MigrateError> {
    let context = &arguments.stream.context;
    if arguments.stream.back || is_captured(settings, context)? {
        let what =
            What { chunk: arguments.chunk_rows, again: arguments.again, ..what(Parts::Backfill, false) };
        return copying::run(settings, &arguments.stream, &arguments.how, what, json);
    }
    if arguments.how.dry_run {
        return open(settings, context)?.carry_out(plan::run).and_then(|plan| output::plan(&plan, json));
    }
    let options = BackfillOptions {
        chunk_rows: arguments.chunk_rows.unwrap_or(CHUNK_ROWS),
        throttle: Duration::from_millis(arguments.throttle_ms),
        again: arguments.again,
        ..BackfillOptions::default()
    };
    let mut meter = meter(format!("backfill {context}"), json);
    let report =
        open(settings, context)?.carry_out(|extraction| backfill::run(extraction, options, &mut meter))?;
    output::backfill(&report, json)
}

fn verify(settings: &Settings, arguments: &VerifyArgs, json: bool) -> Result<u8, MigrateError> {
    let context = &arguments.stream.context;
    if arguments.stream.back || is_captured(settings, context)? {
        return proving::verify(settings, arguments, json);
    }
    let patience = Duration::from_secs(arguments.patience);
    let options = VerifyOptions { limit: arguments.limit, patience, ..VerifyOptions::default() };
    let mut meter = meter(format!("verify {context}"), json);
    let report =
        open(settings, context)?.carry_out(|extraction| verify::run(extraction, options, &mut meter))?;
    output::verify(&report, json)
}

fn status(settings: &Settings, arguments: &StatusArgs, json: bool) -> Result<u8, MigrateError> {
    if !arguments.watch {
        return status_once(settings, arguments.context.as_deref(), json);
    }
    let stop = crate::engine::Stop::by_signals()?;
    while !stop.is_stopped() {
        if !json {
            // Clears the terminal, so that the table stays in its place.
            print_line("\u{1b}[2J\u{1b}[H");
        }
        status_once(settings, arguments.context.as_deref(), json)?;
        stop.rest(WATCH);
    }
    Ok(0)
}

fn status_once(settings: &Settings, context: Option<&str>, json: bool) -> Result<u8, MigrateError> {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for name in settings.extractions.keys().filter(|name| context.is_none_or(|context| context == *name)) {
        if is_captured(settings, name)? {
            // Where there is nothing to be switched, nothing is settled.
            let deeds = open(settings, name).and_then(|extraction| status::settle(&extraction));
            deeds.unwrap_or_default().iter().filter(|_| !json).for_each(|deed| print_line(deed));
            new.extend(standings(settings, name)?);
        } else {
            old.push(open(settings, name)?.carry_out(status::run)?);
        }
    }
    match (context, old.as_slice(), new.as_slice()) {
        // Says which contexts there are.
        (Some(context), [], []) => settings.extraction(context).map(|_| 0),
        (Some(_), [one], []) => output::status(one, json),
        (_, _, []) => output::statuses(&old, json),
        (_, [], _) => output::captured(&new, json),
        _ if json => output::json(&serde_json::json!({ "dual_write": old, "capture": new })),
        _ => output::statuses(&old, false).and_then(|_| output::captured(&new, false)),
    }
}

/// The way there, and the way back where it was begun.
fn standings(settings: &Settings, context: &str) -> Result<Vec<Standing>, MigrateError> {
    let mut all = Vec::new();
    for back in [false, true] {
        let arguments = StreamArgs { context: context.to_owned(), back };
        let captured = match Captured::open(settings, &arguments) {
            Err(MigrateError::Refused { .. }) if back => continue,
            captured => captured?,
        };
        let standing = with_driver!(captured, |driver| standing::look(&driver, &captured))?;
        let begun =
            standing.row.is_some() || standing.capture.as_ref().is_some_and(|capture| capture.installed);
        if !back || begun {
            all.push(standing);
        }
    }
    Ok(all)
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
