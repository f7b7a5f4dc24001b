//! Copying 3,000,000 rows from PostgreSQL to PostgreSQL against pgcopydb.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use harness::Binaries;

use super::world::{PLAIN, TABLE, World};
use super::{Measured, median, ratio};
use crate::shell;

pub(super) const ROWS: u64 = 3_000_000;
const ROUNDS: usize = 3;

const SPLIT_TABLE: &str = "CREATE TABLE person (id bigint PRIMARY KEY, email text NOT NULL UNIQUE, given_name text NOT NULL, \
     family_name text, phone text, bio text, balance_cents bigint NOT NULL, created_at timestamptz NOT NULL, \
     updated_at timestamptz NOT NULL)";

/// One column split in two, one computed.
const SPLIT: &str = r#"
context = "users"

[[mapping]]
table = "public.person"
from = "public.users"
from_key = ["id"]
key = ["id"]
columns = ["id", "email", "given_name", "family_name", "phone", "bio", "balance_cents", "created_at", "updated_at"]
select = '''
SELECT u.id, u.email, split_part(u.name, ' ', 1), nullif(split_part(u.name, ' ', 2), ''), u.phone, u.bio,
       (u.balance * 100)::bigint, u.created_at, u.updated_at
FROM public.users AS u WHERE {keys u.id}
'''
"#;

/// What the mapping is to make, written once more, in other words.
const SPLIT_ROWS: &str = "SELECT id, email, CASE WHEN position(' ' IN name) = 0 THEN name ELSE left(name, position(' ' IN name) - 1) END, \
     CASE WHEN position(' ' IN name) > 0 THEN substr(name, position(' ' IN name) + 1) END, phone, bio, \
     trunc(balance * 100)::bigint, created_at, updated_at FROM users";

/// How many times faster than pgcopydb: the plain copy, then the transformed one.
pub(super) fn against_pgcopydb(binaries: &Binaries) -> Result<Vec<Measured>> {
    let mut world = World::with_rows(binaries, ROWS)?;
    let (mut plain, mut transformed) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let theirs = pgcopydb(&mut world, round)?;
        let ours = copy(&mut world, PLAIN, TABLE)?;
        world.needs_equal_tables()?;
        let split = copy(&mut world, SPLIT, SPLIT_TABLE)?;
        world.needs_equal(SPLIT_ROWS, "SELECT * FROM person")?;
        eprintln!(
            "copy round {round}: pgcopydb {:.2} s, plain {:.2} s, transformed {:.2} s",
            theirs.as_secs_f64(),
            ours.as_secs_f64(),
            split.as_secs_f64()
        );
        plain.push(ratio(theirs, ours));
        transformed.push(ratio(theirs, split));
    }
    Ok(vec![Measured::at_least(median(plain), 1.0), Measured::at_least(median(transformed), 0.8)])
}

/// The whole database, as pgcopydb copies schema, rows and indexes in one go.
fn pgcopydb(world: &mut World, round: usize) -> Result<Duration> {
    let target = world.cluster.create_database()?;
    world.source.run("CHECKPOINT")?;
    let folder = world.tool.folder().join(format!("pgcopydb-{round}"));
    let mut command = Command::new("pgcopydb");
    command.args([
        "copy",
        "db",
        "--table-jobs",
        "2",
        "--source",
        world.source.url(),
        "--target",
        target.url(),
    ]);
    command.arg("--dir").arg(folder);
    let started = Instant::now();
    shell::output(&mut command)?;
    let took = started.elapsed();
    world.target = target;
    world.needs_equal_tables()?;
    Ok(took)
}

/// Into an empty table that has its indexes before and after, with capture installed.
fn copy(world: &mut World, manifest: &str, table: &str) -> Result<Duration> {
    world.fresh_target(table)?;
    world.tool.map_by(manifest)?;
    world.tool.run(&["capture", "install", "users"])?.ok()?;
    let output = world.tool.run(&["run", "users", "--until-caught-up"])?.ok()?;
    world.tool.run(&["capture", "remove", "users"])?.ok()?;
    Ok(output.took)
}
