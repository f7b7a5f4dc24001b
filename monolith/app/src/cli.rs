//! The command line.
//!
//! Invariant: every command shows an example in its help, and what a command prints on standard output is its result.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use platform::settings::document;

use crate::{commands, serve, settings};

/// A shop as one process: users, catalog, carts, stock, orders, payments and shipments behind a REST API.
#[derive(Debug, Parser)]
#[command(
    name = "monolith",
    version,
    arg_required_else_help = true,
    after_help = "\
Settings come from monolith.toml in the present folder (or --config FILE), then from BANYAN_... variables.

Examples:
  monolith serve
  BANYAN_HTTP__LISTEN=127.0.0.1:0 monolith serve
  monolith import online-retail online-retail.csv.gz
  monolith seed --users 200000 --seed 7"
)]
pub struct Cli {
    /// Settings file; without it monolith.toml is read where it exists.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the REST API until SIGTERM or SIGINT.
    #[command(after_help = "\
Creates the database and applies the schema at the first start. Prints `listening http://ADDRESS` once ready.

Examples:
  monolith serve
  monolith --config shop.toml serve
  curl http://127.0.0.1:3000/health/ready")]
    Serve,
    /// Apply, list or revert the steps of the database schema.
    #[command(
        subcommand,
        after_help = "\
Examples:
  monolith schema status
  monolith schema apply
  monolith schema revert --steps 1"
    )]
    Schema(Schema),
    /// Import a file of another system.
    #[command(
        subcommand,
        after_help = "\
Examples:
  monolith import online-retail online-retail.csv.gz
  zcat online-retail.csv.gz | monolith import online-retail -"
    )]
    Import(Import),
    /// Add generated users, the same for the same seed.
    #[command(after_help = "\
Seeding twice changes nothing; a larger number adds the users that are missing.

Examples:
  monolith seed --users 1000
  monolith seed --users 200000 --seed 7 --json")]
    Seed(Seed),
    /// Look at events that wait for their consumer, and mend dead letters.
    #[command(
        subcommand,
        after_help = "\
An event that its consumer could not take is tried again, later and later, and in the end becomes a dead letter. While it
waits, later events of the same aggregate wait behind it.

Examples:
  monolith events list --dead
  monolith events retry 42"
    )]
    Events(Events),
    /// Look at checkouts that are on their way, and hurry those that wait.
    #[command(
        subcommand,
        after_help = "\
Examples:
  monolith sagas list --phase compensating
  monolith sagas show 42"
    )]
    Sagas(Sagas),
    /// Show every setting, its value and where it comes from; secrets are masked.
    #[command(after_help = "\
Examples:
  monolith config
  BANYAN_HTTP__LISTEN=127.0.0.1:0 monolith config --json
  monolith config --markdown")]
    Config {
        #[command(flatten)]
        output: Output,
        /// Print a Markdown chapter on every setting instead: meaning, type, bounds, default. It needs no settings.
        #[arg(long, conflicts_with = "json")]
        markdown: bool,
    },
    /// Print completions for a shell.
    #[command(after_help = "\
Examples:
  monolith completions bash > /etc/bash_completion.d/monolith
  monolith completions fish > ~/.config/fish/completions/monolith.fish")]
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Schema {
    /// Apply every step that is not applied yet.
    #[command(after_help = "Examples:\n  monolith schema apply\n  monolith schema apply --json")]
    Apply(Output),
    /// List every step and when it was applied.
    #[command(after_help = "Examples:\n  monolith schema status\n  monolith schema status --json")]
    Status(Output),
    /// Revert the last steps, the newest first.
    #[command(
        after_help = "Examples:\n  monolith schema revert\n  monolith schema revert --steps 4 --discard-rows"
    )]
    Revert {
        /// How many steps.
        #[arg(long, default_value_t = 1)]
        steps: usize,
        /// Drop tables even if they hold rows.
        #[arg(long)]
        discard_rows: bool,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// Import invoice lines of the Online Retail data set: customers, products, orders and cancellations.
    #[command(after_help = "\
FILE is CSV, plain or gzipped; `-` is standard input. Its first line must be the data set's header.

What a line becomes: its customer a user (customer-17850@online-retail.example), its stock code a product named by the
first description and priced by the first price, its invoice an order; an invoice whose number begins with C becomes a
cancellation, with the quantities as units taken back. Dates are local times of London. Every line is imported,
unchanged (its invoice is there with the same lines) or rejected; rejected lines go to the rejects file as
line,reason,detail,text. Importing the same file twice changes nothing.

Examples:
  monolith import online-retail online-retail.csv.gz
  monolith import online-retail online-retail.csv --rejects /tmp/rejects.csv --json
  zcat online-retail.csv.gz | monolith import online-retail -")]
    OnlineRetail {
        /// The file; `-` for standard input.
        file: PathBuf,
        /// Units of every new product that are put into the warehouse `main`; 0 for none.
        #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
        opening_stock: u32,
        /// Where rejected lines go [default: FILE.rejects.csv, or online-retail.rejects.csv for standard input].
        #[arg(long, value_name = "PATH")]
        rejects: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Events {
    /// List waiting events, the oldest first.
    #[command(
        after_help = "Examples:\n  monolith events list\n  monolith events list --dead --consumer payments --json"
    )]
    List {
        /// Only those of this consumer.
        #[arg(long)]
        consumer: Option<String>,
        /// Only dead letters.
        #[arg(long)]
        dead: bool,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        output: Output,
    },
    /// Show everything that is known of one event.
    #[command(after_help = "Examples:\n  monolith events show 42\n  monolith events show 42 --json")]
    Show(One),
    /// Deliver an event again, at once and with its attempts counted anew.
    #[command(after_help = "Examples:\n  monolith events retry 42")]
    Retry(One),
    /// Give an event up: its consumer never hears of it, and the next one of its aggregate goes on.
    #[command(after_help = "Examples:\n  monolith events discard 42")]
    Discard(One),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sagas {
    /// List checkouts, the oldest first.
    #[command(
        after_help = "Examples:\n  monolith sagas list\n  monolith sagas list --phase compensating --json"
    )]
    List {
        /// Only those in this phase: running, compensating, done or undone.
        #[arg(long, value_parser = commands::sagas::phase)]
        phase: Option<db::saga::Phase>,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        output: Output,
    },
    /// Show one checkout with every step that was tried.
    #[command(after_help = "Examples:\n  monolith sagas show 42\n  monolith sagas show 42 --json")]
    Show(One),
    /// Go on with a waiting checkout at once, with its attempts counted anew.
    #[command(after_help = "Examples:\n  monolith sagas retry 42")]
    Retry(One),
}

/// Which part of a list.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Page {
    /// Go on after this id.
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<i64>,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
}

/// One of a list.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct One {
    /// Its id, as `list` shows it.
    pub(crate) id: i64,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Seed {
    /// How many users.
    #[arg(long, value_name = "N")]
    pub(crate) users: u64,
    /// The seed.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Cli {
    /// Carries out the command.
    pub fn run(self) -> Result<()> {
        if let Command::Completions { shell } = self.command {
            let mut command = Self::command();
            platform::table::print_written(|mut out| {
                clap_complete::generate(shell, &mut command, "monolith", &mut out);
            });
            return Ok(());
        }
        if let Command::Config { markdown: true, .. } = self.command {
            let chapter = document::<settings::Settings>("monolith", settings::DEFAULT_FILE);
            platform::table::print_line(chapter.trim_end());
            return Ok(());
        }
        let loaded = settings::load(self.config.as_deref())?;
        match self.command {
            Command::Serve => serve::run(&loaded.settings),
            Command::Schema(command) => commands::schema(&loaded.settings, &command),
            Command::Import(command) => commands::import(&loaded.settings, command),
            Command::Seed(command) => commands::seed(&loaded.settings, &command),
            Command::Events(command) => commands::events::run(&loaded.settings, command),
            Command::Sagas(command) => commands::sagas::run(&loaded.settings, command),
            Command::Config { output, .. } => {
                platform::settings::print(&loaded.rows, output.json);
                Ok(())
            }
            Command::Completions { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n"), "{name} has no example");
            command.get_subcommands().filter(|command| command.get_name() != "help").for_each(check);
        }
        check(&Cli::command());
    }
}
