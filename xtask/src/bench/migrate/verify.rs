//! Verifying two equal tables of 3,000,000 rows against reladiff, and what ten differing rows cost more.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::Binaries;

use super::copy::ROWS;
use super::world::{TABLE, World};
use super::{Measured, median};
use crate::shell;

/// Pinned, because another version has another cost.
const RELADIFF: [&str; 2] = ["reladiff==0.6.0", "psycopg2-binary==2.9.11"];
const ROUNDS: usize = 5;

pub(super) fn against_reladiff(binaries: &Binaries) -> Result<Vec<Measured>> {
    let reladiff = reladiff()?;
    let mut world = World::with_rows(binaries, ROWS)?;
    world.fresh_target(TABLE)?;
    world.tool.run(&["capture", "install", "users"])?.ok()?;
    world.tool.run(&["run", "users", "--until-caught-up"])?.ok()?;
    world.target.run("VACUUM ANALYZE users")?;
    world.source.run("VACUUM ANALYZE users")?;
    let (mut theirs, mut equal) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(time_reladiff(&world, &reladiff)?.as_secs_f64());
        equal.push(verify(&world, 0)?.as_secs_f64());
    }
    world.target.run("UPDATE users SET phone = 'x' WHERE id % (SELECT max(id) / 10 FROM users) = 7")?;
    let changed = world.target.run("SELECT count(*) FROM users WHERE phone = 'x'")?;
    ensure!(changed.trim() == "10", "{changed} rows were changed instead of ten");
    let mut differing = Vec::new();
    for _ in 0..ROUNDS {
        differing.push(verify(&world, 1)?.as_secs_f64());
    }
    let (theirs, equal, differing) = (median(theirs), median(equal), median(differing));
    eprintln!("verify: reladiff {theirs:.2} s, equal {equal:.2} s, ten differing {differing:.2} s");
    Ok(vec![Measured::at_least(theirs / equal, 4.0), Measured::at_most(differing / equal, 1.3)])
}

fn verify(world: &World, code: i32) -> Result<Duration> {
    let output = world.tool.run(&["verify", "users"])?;
    ensure!(output.code == Some(code), "verify ended with {:?}: {}", output.code, output.stdout);
    Ok(output.took)
}

fn time_reladiff(world: &World, reladiff: &PathBuf) -> Result<Duration> {
    let url = |url: &str| url.replacen("postgres:", "postgresql:", 1);
    let mut command = Command::new(reladiff);
    command.arg(url(world.source.url())).arg("users").arg(url(world.target.url())).arg("users");
    command.args(["-k", "id", "--stats", "-j", "2"]);
    for column in ["email", "name", "phone", "bio", "balance", "created_at", "updated_at"] {
        command.args(["-c", column]);
    }
    let started = Instant::now();
    shell::output(&mut command)?;
    Ok(started.elapsed())
}

/// Installed once, into a Python environment of its own.
fn reladiff() -> Result<PathBuf> {
    let folder = shell::target_folder()?.join("reladiff-venv");
    let program = folder.join("bin/reladiff");
    if program.is_file() {
        return Ok(program);
    }
    shell::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .context("reladiff needs Python's venv; run `sudo apt-get install python3-venv`")?;
    shell::run(Command::new(folder.join("bin/pip")).args(["install", "--quiet"]).args(RELADIFF))?;
    Ok(program)
}
