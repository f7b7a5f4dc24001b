//! `cargo xtask docs`: renews the committed files that are made from the sources.
//!
//! Invariant: a file that is up to date is not touched.

use std::fs;

use anyhow::{Context, Result};
use harness::{Binaries, binaries, configuration, context_map};

use crate::shell::{cargo, run, target_folder};

pub(crate) fn write_all() -> Result<()> {
    let mut build = vec!["build", "--bins"];
    build.extend(Binaries::NAMES.into_iter().flat_map(|name| ["--package", name]));
    run(&mut cargo(&build))?;
    let built = Binaries::in_folder(target_folder()?.join("debug"))?;
    write(configuration::FILE, &configuration::render(&built)?)?;
    write(context_map::FILE, &context_map::render()?)
}

fn write(file: &str, text: &str) -> Result<()> {
    let path = binaries::workspace().join(file);
    let before = fs::read_to_string(&path).unwrap_or_default();
    if before == text {
        println!("{file}: up to date");
        return Ok(());
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    let new = text.lines().filter(|line| !before.lines().any(|old| old == *line)).count();
    let gone = before.lines().filter(|line| !text.lines().any(|now| now == *line)).count();
    println!("{file}: changed, {new} new lines, {gone} gone; commit it");
    Ok(())
}
