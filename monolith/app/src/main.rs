//! The binary `monolith`.
//!
//! Invariant: an error is one line on standard error, with its causes, and exit code 1.

use std::process::ExitCode;

use clap::Parser;
use monolith::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run().and_then(|()| Ok(platform::table::all_written()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            platform::table::print_error_line(&format!("error: {}", platform::error::chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}
