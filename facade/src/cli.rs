//! The command line.

mod api;
mod check;
mod flag;
mod init;
mod overrides;
mod pin;
mod serve;
mod show;
mod status;
mod upstreams;
mod watch;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use facade::settings::{DEFAULT_FILE, Settings};
use platform::settings::{Loaded, document, load, print};
use platform::table::{print_line, print_written};
use watch::Watched;

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
    #[command(visible_alias = "run")]
    Serve,
    /// Write a settings file to start from: everything goes to one upstream
    #[command(after_help = "Example:\n  facade init --upstream http://127.0.0.1:3000 && facade run")]
    Init(InitArgs),
    /// Show how a running facade and its contexts fare
    #[command(after_help = "Example:\n  facade status --watch")]
    Status(StatusArgs),
    /// Take over from the running facade without a refused or reset connection, then forward in its place
    #[command(
        after_help = "The running facade and this one need the same setting `upgrade_socket`. Settings and binary \
                            may differ; what does not start leaves the running one as it is."
    )]
    Upgrade,
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
    /// Check the settings as a whole, without starting anything; every fault is told, with its line and column where it stands in the file
    #[command(after_help = "Exit code: 0 if they are sound, 1 if not, 2 if this command is misused.")]
    Check {
        /// Settings file; like --config
        file: Option<PathBuf>,
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Tell where a request would go, and why
    #[command(after_help = "Example:\n  facade explain GET /api/v1/users/42 -H 'x-user-id: 42'")]
    Explain(ExplainArgs),
    /// Show and change which keys stay at one side
    #[command(subcommand, arg_required_else_help = true)]
    Pin(PinCommand),
    /// Print a signed header and cookie with which a tester's reads of a context go to one side
    #[command(after_help = OVERRIDE_EXAMPLE)]
    Override(OverrideArgs),
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

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Where all requests go: http://host:port
    #[arg(long, value_name = "URL")]
    upstream: String,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    output: PathBuf,
    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
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
pub(crate) struct StatusArgs {
    /// Show it anew each second, until Ctrl-C
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    admin: AdminArgs,
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

#[derive(Debug, Subcommand)]
pub(crate) enum PinCommand {
    /// Print pins
    List(PinListArgs),
    /// Keep the reads of a key at one side while its context is in canary; running facades follow at once
    #[command(after_help = "Example:\n  facade pin set users 42 monolith --reason 'their export breaks'")]
    Set {
        #[command(flatten)]
        pin: PinArgs,
        /// monolith or service
        side: String,
    },
    /// Let the reads of a key go where the weight says
    Remove {
        #[command(flatten)]
        pin: PinArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PinArgs {
    /// The context
    context: String,
    /// The sticky key, as `facade explain` shows it
    key: String,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who, for the audit trail
    #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true)]
    actor: String,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PinListArgs {
    /// Only this context
    context: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

const OVERRIDE_EXAMPLE: &str = "Example:
  curl -H \"$(facade override --context users --side service --for 2h --header)\" http://127.0.0.1:8080/api/v1/users/42

It is signed with the setting overrides.secret and moves reads only: writes go to the owner, and nobody reads from a
monolith that does not own the context any more.";

#[derive(Debug, Args)]
pub(crate) struct OverrideArgs {
    /// The context
    #[arg(long)]
    context: String,
    /// Which side answers: monolith or service
    #[arg(long)]
    side: String,
    /// How long it lasts, at most 30 days: 90s, 15m, 2h, 1d
    #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
    lasts: String,
    /// Print only the header, as `name: value`
    #[arg(long, conflicts_with = "json")]
    header: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
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
    #[arg(long, alias = "client", value_name = "ADDRESS", default_value = "127.0.0.1")]
    client_address: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(cli: Cli) -> Result<()> {
    let config = cli.config.as_deref();
    match cli.command {
        Command::Serve => serve::serve(Watched::new(config), &settings(config)?),
        Command::Upgrade => serve::upgrade(Watched::new(config), &settings(config)?),
        Command::Init(arguments) => init::run(&arguments),
        Command::Flag(command) => flag::run(&settings(config)?, command),
        Command::Status(arguments) => status::run(&settings(config)?, &arguments),
        Command::Upstreams(arguments) => upstreams::run(&settings(config)?, &arguments),
        Command::Routes { json } => show::routes(&settings(config)?, json),
        Command::Check { file: Some(_), .. } if config.is_some() => {
            let told = "the settings file is named twice; name it behind `check` or with --config\n";
            Cli::command().error(ErrorKind::ArgumentConflict, told).exit()
        }
        Command::Check { file, json } => check::run(file.as_deref().or(config), json),
        Command::Explain(arguments) => show::explain(&settings(config)?, arguments),
        Command::Pin(command) => pin::run(&settings(config)?, command),
        Command::Override(arguments) => overrides::run(&settings(config)?, &arguments),
        Command::Config { markdown: true, .. } => {
            print_line(document::<Settings>("facade", DEFAULT_FILE).trim_end());
            Ok(())
        }
        Command::Config { json, .. } => {
            print(&loaded(config)?.rows, json);
            Ok(())
        }
        Command::Completions { shell } => {
            print_written(|mut out| clap_complete::generate(shell, &mut Cli::command(), "facade", &mut out));
            Ok(())
        }
    }
}

fn loaded(config: Option<&Path>) -> Result<Loaded<Settings>> {
    Ok(load::<Settings>(config, DEFAULT_FILE)?)
}

/// The settings; a relative path in the file means a path beside the file.
fn settings(config: Option<&Path>) -> Result<Settings> {
    Ok(Settings::located(loaded(config)?))
}
