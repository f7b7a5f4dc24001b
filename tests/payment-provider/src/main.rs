//! The binary `payment-provider`.
//!
//! Invariant: standard output carries results and the line that says where it listens; everything else is on
//! standard error, and a failure is one line there.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use payment_provider::process;
use payment_provider::settings::{DEFAULT_FILE, Settings};
use platform::{error, settings, table, telemetry};

/// A simulated payment provider for demo and tests: it keeps a ledger, and misbehaves as it is told to.
#[derive(Debug, Parser)]
#[command(
    name = "payment-provider",
    version,
    after_help = "\
Settings come from payment-provider.toml in the present folder (or --config FILE), then from BANYAN_... variables.

Examples:
  payment-provider
  BANYAN_HTTP__LISTEN=127.0.0.1:0 BANYAN_LEDGER__PATH=shop.ledger payment-provider serve
  curl -X POST http://127.0.0.1:3090/v1/authorizations -H 'Idempotency-Key: k1' \\
    -d '{\"amount\":{\"minor\":123,\"currency\":\"GBP\"},\"payment_method\":\"pm_ok\"}'
  curl -X POST http://127.0.0.1:3090/v1/keys/k1/void -d '{}'
  curl -X PUT http://127.0.0.1:3090/control/behaviour -d '{\"charge_then_hang_rate\":0.1}'
  curl http://127.0.0.1:3090/v1/ledger/summary"
)]
struct Arguments {
    /// Settings file; payment-provider.toml where it exists if left away.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT; what is done if no command is given.
    #[command(
        after_help = "Examples:\n  payment-provider serve\n  payment-provider --config other.toml serve"
    )]
    Serve,
    /// Print the effective settings, secrets masked, with where each comes from.
    #[command(after_help = "Examples:\n  payment-provider config\n  payment-provider config --markdown")]
    Config {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Print a Markdown chapter on every setting instead: meaning, type, bounds, default. It needs no settings.
        #[arg(long, conflicts_with = "json")]
        markdown: bool,
    },
    /// Print completions for a shell.
    #[command(after_help = "Examples:\n  payment-provider completions bash > payment-provider.bash")]
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

fn main() -> ExitCode {
    telemetry::init("payment-provider");
    match run(Arguments::parse()).and_then(|()| Ok(table::all_written()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            table::print_error_line(&format!("error: {}", error::chain(failure.as_ref())));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let command = arguments.command.unwrap_or(Command::Serve);
    if let Command::Completions { shell } = command {
        let mut command = Arguments::command();
        table::print_written(|mut out| {
            clap_complete::generate(shell, &mut command, "payment-provider", &mut out)
        });
        return Ok(());
    }
    if let Command::Config { markdown: true, .. } = command {
        table::print_line(settings::document::<Settings>("payment-provider", DEFAULT_FILE).trim_end());
        return Ok(());
    }
    let loaded = settings::load::<Settings>(arguments.config.as_deref(), DEFAULT_FILE)?;
    if let Command::Config { json, .. } = command {
        settings::print(&loaded.rows, json);
        return Ok(());
    }
    let mut settings = loaded.settings.clone();
    settings.ledger.path = loaded.located("ledger.path", &settings.ledger.path);
    Ok(actix_web::rt::System::new().block_on(process::serve(&settings))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n"), "{} has no example", command.get_name());
            command.get_subcommands().filter(|command| command.get_name() != "help").for_each(check);
        }
        Arguments::command().debug_assert();
        check(&Arguments::command());
    }
}
