//! The binary `users-service`.
//!
//! Invariant: standard output carries results and the line that says where it listens; everything else is on
//! standard error, and a failure is one line there.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use db::Db;
use db::schema::{self, Rows, StepStatus};
use platform::settings;
use platform::{error, table, telemetry};
use users_service::process::{self, SCHEMAS};
use users_service::settings::{DEFAULT_FILE, Settings};

/// The users context as a service of its own.
#[derive(Debug, Parser)]
#[command(name = "users-service", version, arg_required_else_help = true)]
struct Arguments {
    /// Settings file; users-service.toml where it exists if left away.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT; a missing database is created.
    Serve,
    /// Apply, list or revert the steps of the database's schema.
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Print the effective settings, secrets masked, with where each comes from.
    Config {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Print a Markdown chapter on every setting instead: meaning, type, bounds, default. It needs no settings.
        #[arg(long, conflicts_with = "json")]
        markdown: bool,
    },
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
enum SchemaCommand {
    /// Apply every step that is not applied yet.
    Apply,
    /// List the steps and when each was applied.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revert the last steps, the newest first.
    Revert {
        /// How many.
        #[arg(long, default_value_t = 1)]
        steps: usize,
        /// Drop tables that still hold rows.
        #[arg(long)]
        discard_rows: bool,
    },
}

fn main() -> ExitCode {
    telemetry::init("users-service");
    match run(Arguments::parse()).and_then(|()| Ok(table::all_written()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            table::print_error_line(&format!("error: {}", error::chain(failure.as_ref())));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Command::Completions { shell } = arguments.command {
        let mut command = Arguments::command();
        table::print_written(|mut out| {
            clap_complete::generate(shell, &mut command, "users-service", &mut out)
        });
        return Ok(());
    }
    if let Command::Config { markdown: true, .. } = arguments.command {
        table::print_line(settings::document::<Settings>("users-service", DEFAULT_FILE).trim_end());
        return Ok(());
    }
    let loaded = settings::load::<Settings>(arguments.config.as_deref(), DEFAULT_FILE)?;
    let mut settings = loaded.settings.clone();
    settings.database.path = loaded.located("database.path", &settings.database.path);
    settings.control.path = loaded.located("control.path", &settings.control.path);
    match arguments.command {
        Command::Serve => Ok(actix_web::rt::System::new().block_on(process::serve(&settings))?),
        Command::Schema(command) => run_schema(command, &settings),
        Command::Config { json, .. } => {
            settings::print(&loaded.rows, json);
            Ok(())
        }
        Command::Completions { .. } => Ok(()),
    }
}

fn run_schema(command: SchemaCommand, settings: &Settings) -> anyhow::Result<()> {
    let db = Db::open(&settings.database)?;
    match command {
        SchemaCommand::Apply => report("applied", &process::prepare(&db)?),
        SchemaCommand::Status { json } => list(&schema::status(&db, &SCHEMAS)?, json)?,
        SchemaCommand::Revert { steps, discard_rows } => {
            let rows = if discard_rows { Rows::Discard } else { Rows::Keep };
            report("reverted", &schema::revert(&db, &SCHEMAS, steps, rows)?);
        }
    }
    Ok(())
}

fn report(done: &str, steps: &[StepStatus]) {
    for step in steps {
        table::print_line(&format!("{done} {}/{:04}_{}", step.context, step.version, step.name));
    }
    if steps.is_empty() {
        table::print_line(&format!("nothing to be {done}"));
    }
}

fn list(steps: &[StepStatus], json: bool) -> anyhow::Result<()> {
    if json {
        table::print_line(&serde_json::to_string_pretty(steps)?);
        return Ok(());
    }
    let rows = steps.iter().map(|step| {
        let applied = step.applied_at.map_or_else(|| "not applied".to_owned(), |at| at.to_string());
        [step.context.clone(), format!("{:04}_{}", step.version, step.name), applied]
    });
    table::print(["context", "step", "applied"], rows);
    Ok(())
}
