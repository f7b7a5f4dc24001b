//! The binary `facade`.
//!
//! Invariant: results go to standard output, everything else to standard error; a failure is one line and exit code 1.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", platform::error::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
