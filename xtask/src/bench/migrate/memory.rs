//! The most memory that any command holds at 10,000,000 rows.

use anyhow::Result;
use harness::Binaries;

use super::Measured;
use super::sqlite::Files;
use super::world::{TABLE, Tool, World};

const ROWS: u64 = 10_000_000;
const MIB: f64 = 100.0;

/// In their order of use; each with the exit codes that it may end with.
const COMMANDS: [(&[&str], &[i32]); 8] = [
    (&["plan", "users"], &[0]),
    (&["capture", "install", "users"], &[0]),
    (&["run", "users", "--until-caught-up"], &[0]),
    (&["status", "users"], &[0]),
    (&["verify", "users"], &[0]),
    (&["catch-up", "users", "--until-caught-up"], &[0]),
    (&["repair", "users"], &[0]),
    (&["capture", "remove", "users"], &[0]),
];

pub(super) fn on_sqlite(binaries: &Binaries) -> Result<Measured> {
    most_of(&Files::with_rows(binaries, ROWS)?.tool, "SQLite")
}

pub(super) fn on_postgres(binaries: &Binaries) -> Result<Measured> {
    let mut world = World::with_rows(binaries, ROWS)?;
    world.fresh_target(TABLE)?;
    most_of(&world.tool, "PostgreSQL")
}

fn most_of(tool: &Tool, engine: &str) -> Result<Measured> {
    let mut most = 0.0_f64;
    for (arguments, codes) in COMMANDS {
        let peak = tool.peak_mib(arguments, codes)?;
        eprintln!("memory on {engine}: `migrate {}` {peak:.1} MiB", arguments.join(" "));
        most = most.max(peak);
    }
    Ok(Measured::at_most(most, MIB))
}
