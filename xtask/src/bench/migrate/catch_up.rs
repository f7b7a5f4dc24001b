//! Catch-up: a million dirty keys against one upsert of the same rows, and how far it stays behind a steady writer.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Binaries, wait};
use postgres::{Client, NoTls};

use super::world::{TABLE, World};
use super::{Measured, median, ratio};
use crate::shell;

const DIRTY: u64 = 1_000_000;
const ROUNDS: usize = 3;
const WRITES_PER_SECOND: u64 = 2_000;
const PROBES: usize = 200;
const LAG_MS: f64 = 500.0;

pub(super) fn against_upsert(binaries: &Binaries) -> Result<Measured> {
    let mut world = World::with_rows(binaries, DIRTY)?;
    world.fresh_target(TABLE)?;
    world.tool.run(&["capture", "install", "users"])?.ok()?;
    world.tool.run(&["run", "users", "--until-caught-up"])?.ok()?;
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        dirty_all(&world)?;
        let ours = world.tool.run(&["catch-up", "users", "--until-caught-up"])?.ok()?.took;
        world.needs_equal_tables()?;
        dirty_all(&world)?;
        let theirs = upsert(&world)?;
        world.needs_equal_tables()?;
        world.tool.run(&["catch-up", "users", "--until-caught-up"])?.ok()?;
        eprintln!(
            "catch-up round {round}: {:.2} s, upsert {:.2} s",
            ours.as_secs_f64(),
            theirs.as_secs_f64()
        );
        ratios.push(ratio(ours, theirs));
    }
    Ok(Measured::at_most(median(ratios), 2.0))
}

/// Every row changes, and both tables are as fresh as autovacuum would leave them.
fn dirty_all(world: &World) -> Result<()> {
    world.source.run("UPDATE users SET balance = (balance + 1) % 100000, updated_at = now()")?;
    for database in [&world.source, &world.target] {
        database.run("VACUUM ANALYZE users")?;
        database.run("CHECKPOINT")?;
    }
    Ok(())
}

/// The same rows through a staging table, in one statement.
fn upsert(world: &World) -> Result<Duration> {
    let columns = "id, email, name, phone, bio, balance, created_at, updated_at";
    let sets = columns.split(", ").skip(1).map(|name| format!("{name} = excluded.{name}"));
    let script = format!(
        "CREATE TEMP TABLE staging (LIKE users);\nCOPY staging FROM PROGRAM $$psql -q '{}' -c 'COPY users TO STDOUT'$$;\n\
         INSERT INTO users SELECT {columns} FROM staging ON CONFLICT (id) DO UPDATE SET {};\n",
        world.source.url(),
        sets.collect::<Vec<_>>().join(", ")
    );
    let started = Instant::now();
    let mut psql = Command::new("psql")
        .args(["-q", "-v", "ON_ERROR_STOP=1", world.target.url()])
        .stdin(Stdio::piped())
        .spawn()?;
    psql.stdin.take().context("psql takes no input")?.write_all(script.as_bytes())?;
    ensure!(psql.wait()?.success(), "the upsert failed");
    Ok(started.elapsed())
}

/// The slowest but one in a hundred times, in milliseconds, from a commit at the source to its row at the target.
pub(super) fn lag_in_ms(binaries: &Binaries) -> Result<Measured> {
    let mut world = World::with_rows(binaries, 100_000)?;
    world.fresh_target(TABLE)?;
    world.tool.run(&["capture", "install", "users"])?.ok()?;
    world.tool.run(&["run", "users", "--until-caught-up"])?.ok()?;
    let follower = world.tool.start(&["run", "users"])?;
    let mut writer = writer(&world)?;
    let (mut source, mut target) = (connect(world.source.url())?, connect(world.target.url())?);
    let mut lags = Vec::with_capacity(PROBES);
    for probe in 0..PROBES {
        let word = format!("probe {probe}");
        source.execute("UPDATE users SET bio = $1 WHERE id = 1", &[&word])?;
        let committed = Instant::now();
        wait::until("the probe arrives", Duration::from_secs(30), || {
            let row = target.query_opt("SELECT 1 FROM users WHERE id = 1 AND bio = $1", &[&word])?;
            Ok(row.map(drop))
        })?;
        lags.push(committed.elapsed().as_secs_f64() * 1_000.0);
        thread::sleep(Duration::from_millis(50));
    }
    writer.kill()?;
    writer.wait()?;
    follower.kill()?;
    lags.sort_by(f64::total_cmp);
    let p99 = lags.get(PROBES * 99 / 100).copied().context("no probe arrived")?;
    Ok(Measured::at_most(p99, LAG_MS))
}

/// A steady writer of single rows.
fn writer(world: &World) -> Result<std::process::Child> {
    let script = world.tool.folder().join("writes.sql");
    std::fs::write(
        &script,
        "\\set id random(2, 100000)\nUPDATE users SET balance = balance + 1, updated_at = now() WHERE id = :id;\n",
    )?;
    let folder = shell::output(Command::new("pg_config").arg("--bindir")).map(|text| text.trim().to_owned());
    let mut command = Command::new(folder.map_or("pgbench".to_owned(), |folder| format!("{folder}/pgbench")));
    command.args(["--no-vacuum", "--client", "4", "--time", "600", "--rate", &WRITES_PER_SECOND.to_string()]);
    command.arg("--file").arg(script).arg(world.source.url()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("cannot start pgbench")
}

pub(super) fn connect(url: &str) -> Result<Client> {
    Ok(Client::connect(url, NoTls)?)
}
