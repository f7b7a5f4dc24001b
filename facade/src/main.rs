//! The binary `facade`.
//!
//! Invariant: results go to standard output, everything else to standard error; a failure is one line and exit code 1.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

/// A request makes some forty small allocations on one thread, which this one serves without looking further.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()).and_then(|()| Ok(platform::table::all_written()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            platform::table::print_error_line(&format!("error: {}", platform::error::chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}
