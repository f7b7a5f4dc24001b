//! `cargo xtask check`: everything that can be said of the code without running it.

use anyhow::Result;

use crate::shell::{cargo, run, works};

pub(crate) fn run_all() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    run(cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings"))?;
    install_cargo_deny()?;
    run(&mut cargo(&["deny", "check", "licenses", "bans", "sources"]))
}

fn install_cargo_deny() -> Result<()> {
    if works(&mut cargo(&["deny", "--version"])) {
        return Ok(());
    }
    eprintln!("cargo-deny is missing; installing it with Cargo, once");
    run(&mut cargo(&["install", "cargo-deny", "--locked"]))
}
