//! What capture costs the application: CPU per single-row transaction with it against without.

use anyhow::Result;
use harness::Binaries;
use rusqlite::Connection;

use super::catch_up::connect;
use super::sqlite::Files;
use super::world::{TABLE, World};
use super::{Measured, median, ticks};

const ROWS: i64 = 100_000;
const TRANSACTIONS: i64 = 20_000;
const ROUNDS: usize = 5;

/// On PostgreSQL, the CPU time of the connection's own process.
pub(super) fn on_postgres(binaries: &Binaries) -> Result<Measured> {
    let mut world = World::with_rows(binaries, ROWS.unsigned_abs())?;
    world.fresh_target(TABLE)?;
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let without = postgres_micros(&world)?;
        world.tool.run(&["capture", "install", "users"])?.ok()?;
        let with = postgres_micros(&world)?;
        world.tool.run(&["capture", "remove", "users"])?.ok()?;
        eprintln!("capture on PostgreSQL: {with:.1} µs with, {without:.1} µs without");
        ratios.push(with / without);
    }
    Ok(Measured::at_most(median(ratios), 1.3))
}

fn postgres_micros(world: &World) -> Result<f64> {
    world.source.run("VACUUM ANALYZE users")?;
    let mut client = connect(world.source.url())?;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    let update = client.prepare("UPDATE users SET balance = balance + 1 WHERE id = $1")?;
    ticks::micros_per_request(u32::try_from(pid)?, || {
        for number in 0..TRANSACTIONS {
            client.execute(&update, &[&(number * 7_919 % ROWS + 1)])?;
        }
        Ok(TRANSACTIONS.unsigned_abs())
    })
}

/// On SQLite, the CPU time of this process, which is the application then.
pub(super) fn on_sqlite(binaries: &Binaries) -> Result<Measured> {
    let files = Files::with_rows(binaries, ROWS.unsigned_abs())?;
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let without = sqlite_micros(&files)?;
        files.tool.run(&["capture", "install", "users"])?.ok()?;
        let with = sqlite_micros(&files)?;
        files.tool.run(&["capture", "remove", "users"])?.ok()?;
        eprintln!("capture on SQLite: {with:.1} µs with, {without:.1} µs without");
        ratios.push(with / without);
    }
    Ok(Measured::at_most(median(ratios), 2.0))
}

fn sqlite_micros(files: &Files) -> Result<f64> {
    let connection = Connection::open(&files.source)?;
    connection.execute_batch("PRAGMA synchronous = NORMAL")?;
    let mut update = connection.prepare("UPDATE users SET balance = balance + 1 WHERE id = ?1")?;
    ticks::micros_per_request(std::process::id(), || {
        for number in 0..TRANSACTIONS {
            update.execute([number * 7_919 % ROWS + 1])?;
        }
        Ok(TRANSACTIONS.unsigned_abs())
    })
}
