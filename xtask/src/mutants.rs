//! `cargo xtask mutants`: undoes one rule of copying data in use at a time, in a copy of the sources, and fails unless a
//! test notices each.
//!
//! Invariant: a mutant counts as caught only if it compiles and the tests that it names fail; one that no longer applies
//! to the sources is a fault, so a rule cannot lose its mutant unnoticed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::binaries::workspace;

use crate::shell::{self, run, target_folder};

/// What to try.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only mutants with this in their name
    #[arg(long)]
    only: Option<String>,
}

/// A patch, and the words in front of it.
struct Mutant {
    name: String,
    file: PathBuf,
    rule: String,
    /// Arguments of `cargo test` that must fail.
    test: Vec<String>,
    /// Variables that it is given, such as how many seeds are worth trying.
    env: Vec<(String, String)>,
}

pub(crate) fn run_all(options: &Options) -> Result<()> {
    let mutants = all(options.only.as_deref())?;
    ensure!(!mutants.is_empty(), "no mutant has that in its name; tests/mutants holds them all");
    let folder = target_folder()?.join("mutants");
    let tree = folder.join("tree");
    copy_sources(&tree)?;
    let mut missed = Vec::new();
    for mutant in &mutants {
        let started = Instant::now();
        apply(mutant, &tree, &[])?;
        let caught = is_caught(mutant, &tree, &folder.join("target"));
        apply(mutant, &tree, &["--reverse"])?;
        let verdict = if caught? { "caught" } else { "MISSED" };
        println!(
            "mutant {} {verdict} after {:.0} s: {}",
            mutant.name,
            started.elapsed().as_secs_f64(),
            mutant.rule
        );
        if verdict == "MISSED" {
            missed.push(mutant.name.as_str());
        }
    }
    ensure!(missed.is_empty(), "no test notices {}", missed.join(", "));
    Ok(())
}

fn all(only: Option<&str>) -> Result<Vec<Mutant>> {
    let folder = workspace().join("tests/mutants");
    let mut mutants = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let file = entry?.path();
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if file.extension().is_some_and(|extension| extension == "patch")
            && only.is_none_or(|only| name.contains(only))
        {
            mutants.push(read(name, file)?);
        }
    }
    mutants.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(mutants)
}

fn read(name: String, file: PathBuf) -> Result<Mutant> {
    let text = fs::read_to_string(&file)?;
    let line = |start: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(start));
        found.map(|rest| rest.trim().to_owned()).with_context(|| format!("{name} has no line `{start} …`"))
    };
    let (rule, test) = (line("Rule:")?, line("Test:")?);
    let env = line("Env:").unwrap_or_default();
    let variable = |text: &str| {
        let (variable, value) =
            text.split_once('=').with_context(|| format!("{name}: `{text}` sets nothing"))?;
        Ok((variable.to_owned(), value.to_owned()))
    };
    let env = env.split_whitespace().map(variable).collect::<Result<_>>()?;
    Ok(Mutant { file, rule, test: test.split_whitespace().map(str::to_owned).collect(), env, name })
}

/// The sources as they stand in the work tree, without what is built from them.
fn copy_sources(tree: &Path) -> Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree)?;
    }
    let mut list = Command::new("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(workspace());
    for name in shell::output(&mut list)?.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (workspace().join(name), tree.join(name));
        // A file may be listed and yet be removed in the work tree.
        if !from.is_file() {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file without a folder")?)?;
        fs::copy(&from, &to)?;
    }
    Ok(())
}

fn apply(mutant: &Mutant, tree: &Path, more: &[&str]) -> Result<()> {
    let mut command = Command::new("git");
    command.args(["apply", "-C1"]).args(more).arg(&mutant.file).current_dir(tree);
    // The copy lies inside a repository, whose root it must not be taken for.
    command.env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree));
    shell::output(&mut command)
        .map(drop)
        .with_context(|| format!("tests/mutants/{}.patch does not fit the sources any more", mutant.name))
}

fn is_caught(mutant: &Mutant, tree: &Path, target: &Path) -> Result<bool> {
    let cargo = |more: &[&str]| {
        let mut command = shell::cargo(&["test", "--quiet"]);
        command.args(more).args(&mutant.test).current_dir(tree).env("CARGO_TARGET_DIR", target);
        command.envs(mutant.env.iter().map(|(variable, value)| (variable, value)));
        command
    };
    run(&mut cargo(&["--no-run"])).with_context(|| format!("mutant {} does not compile", mutant.name))?;
    Ok(!cargo(&[]).output()?.status.success())
}
