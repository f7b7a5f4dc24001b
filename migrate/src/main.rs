//! The binary `migrate`.
//!
//! Invariant: nothing but the start; everything else is in the library, where tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    migrate::cli::main()
}
