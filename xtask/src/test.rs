//! `cargo xtask test`: the binaries first, because the tests run them, then every test of the workspace.

use anyhow::Result;

use crate::shell::{cargo, run, target_folder};

pub(crate) fn run_all(arguments: &[String]) -> Result<()> {
    // With the tests in the same build, Cargo settles on one set of features and compiles no dependency twice.
    run(&mut cargo(&["build", "--workspace", "--bins", "--tests"]))?;
    let mut tests = cargo(&["test", "--workspace"]);
    run(tests.args(arguments).env("BANYAN_BIN_DIR", target_folder()?.join("debug")))
}
