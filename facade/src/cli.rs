//! The command line.

mod api;
mod flag;
mod serve;
mod show;
mod upstreams;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use facade::settings::{DEFAULT_FILE, Settings};
use platform::settings::{Loaded, document, load, print};
use platform::table::print_line;

/// A reverse proxy whose flags move traffic, context by context, from a monolith to services.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Settings file; without it facade.toml here is read, if it exists. BANYAN_… variables win over it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  facade serve --config facade.toml
  facade flag set users --reads 10 --reason 'first canary'
  facade explain GET /api/v1/users/42 -H 'x-user-id: 42'";

#[derive(Debug, Subcommand)]
enum Command {
    /// Forward requests until told to end (SIGTERM, SIGINT)
    Serve,
    /// Show and change where traffic goes
    #[command(subcommand, arg_required_else_help = true)]
    Flag(FlagCommand),
    /// Print upstreams with the state of their instances and breakers, as the running facade sees them
    Upstreams(AdminArgs),
    /// Print the route table
    Routes {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check the settings as a whole, without starting anything
    Check,
    /// Tell where a request would go, and why
    #[command(after_help = "Example:\n  facade explain GET /api/v1/users/42 -H 'x-user-id: 42'")]
    Explain(ExplainArgs),
    /// Print the effective settings and where each comes from
    Config {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Print a Markdown chapter on every setting instead (meaning, type, bounds, default); it needs no settings
        #[arg(long, conflicts_with = "json")]
        markdown: bool,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  facade completions bash > /etc/bash_completion.d/facade")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum FlagCommand {
    /// Print all flags
    List(AdminArgs),
    /// Change a flag; it takes effect in running facades at once
    #[command(after_help = SET_EXAMPLES)]
    Set(SetArgs),
    /// Print who changed what, when and why; the latest first
    History(HistoryArgs),
}

const SET_EXAMPLES: &str = "Examples:
  facade flag set users --reads 12.5 --reason 'canary looks good'
  facade flag set users --reads 0 --reason 'errors in checkout' --actor anna

A context whose data is replicated changes its owner by `migrate switch`, not by --writes.";

#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// URL of the admin API; by default from the setting admin_listen
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The context
    context: String,
    /// Percentage of keys whose reads the service answers: 0 to 100, at most two decimals
    #[arg(long, value_name = "PERCENT", required_unless_present = "writes", allow_hyphen_values = true)]
    reads: Option<String>,
    /// Which side takes the writes: monolith or service
    #[arg(long, value_name = "SIDE")]
    writes: Option<String>,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Pass a shut gate; shown as forced from then on
    #[arg(long)]
    force: bool,
    /// Who, for the audit trail
    #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true)]
    actor: String,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Only this context
    context: Option<String>,
    /// At most so many rows
    #[arg(long, default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// GET, POST, …
    method: String,
    /// Path or URL
    target: String,
    /// A header; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The client's address
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    client: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(cli: Cli) -> Result<()> {
    let config = cli.config.as_deref();
    match cli.command {
        Command::Serve => serve::serve(&settings(config)?),
        Command::Flag(command) => flag::run(&settings(config)?, command),
        Command::Upstreams(arguments) => upstreams::run(&settings(config)?, &arguments),
        Command::Routes { json } => show::routes(&settings(config)?, json),
        Command::Check => show::check(&settings(config)?),
        Command::Explain(arguments) => show::explain(&settings(config)?, arguments),
        Command::Config { markdown: true, .. } => {
            print_line(document::<Settings>("facade", DEFAULT_FILE).trim_end());
            Ok(())
        }
        Command::Config { json, .. } => {
            print(&loaded(config)?.rows, json);
            Ok(())
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "facade", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn loaded(config: Option<&Path>) -> Result<Loaded<Settings>> {
    Ok(load::<Settings>(config, DEFAULT_FILE)?)
}

/// The settings; a relative path in the file means a path beside the file.
fn settings(config: Option<&Path>) -> Result<Settings> {
    let Loaded { mut settings, rows, file } = loaded(config)?;
    let Some(file) = file else { return Ok(settings) };
    let is_of_file = |row: &platform::settings::SettingRow| {
        row.key == "control.path" && !row.origin.starts_with(platform::settings::ENV_PREFIX)
    };
    if settings.control.path.is_relative() && settings.control.is_set() && rows.iter().any(is_of_file) {
        let folder = file.parent().context("the settings file has no folder")?;
        settings.control.path = folder.join(&settings.control.path);
    }
    Ok(settings)
}
