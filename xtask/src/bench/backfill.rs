//! The backfill of generated users against the same rows made by plain `INSERT … SELECT` across attached files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{Binaries, Cluster, Part, databases};
use rusqlite::Connection;

use super::{Measured, median, ratio};

const USERS: u32 = 200_000;
const ROUNDS: usize = 3;

pub(super) fn time_against_insert_select(binaries: &Binaries) -> Result<Measured> {
    let mut ratios = Vec::new();
    let mut cluster = Cluster::prepare(binaries.clone())?;
    cluster.import()?.ok()?;
    cluster.seed(USERS, 1)?.ok()?;
    // Both sides must be up once: the service creates its schema, the monolith answers images.
    for part in Part::ALL {
        cluster.start(part)?;
    }
    cluster.turn_dual_write("on")?;
    let empty = empty_copy(&cluster)?;
    for round in 1..=ROUNDS {
        let theirs = insert_select(&cluster, &empty)?;
        reset(&mut cluster, &empty)?;
        let output = cluster.migrate(&["backfill", "users"])?.ok()?;
        let (rows, due) =
            (count(&cluster.service_db(), "person")?, count(&cluster.monolith_db(), "users_users")?);
        ensure!(rows == due, "the backfill left {rows} of {due} rows");
        eprintln!(
            "backfill round {round}: {:.2} s, INSERT … SELECT {:.2} s, {rows} users",
            output.took.as_secs_f64(),
            theirs.as_secs_f64()
        );
        ratios.push(ratio(output.took, theirs));
    }
    Ok(Measured::at_most(median(ratios), 3.0))
}

/// The service's database as its schema leaves it.
fn empty_copy(cluster: &Cluster) -> Result<PathBuf> {
    let path = cluster.folder().join("empty.db");
    let text = path.to_string_lossy().into_owned();
    Connection::open(cluster.service_db())?.execute("VACUUM INTO ?1", [text])?;
    Ok(path)
}

/// An empty target for the next round: dual-write off and on again starts anew.
fn reset(cluster: &mut Cluster, empty: &Path) -> Result<()> {
    cluster.turn_dual_write("off")?;
    cluster.stop(Part::Service)?;
    for suffix in ["", "-wal", "-shm"] {
        let path = PathBuf::from(format!("{}{suffix}", cluster.service_db().display()));
        if path.exists() {
            fs::remove_file(path)?;
        }
    }
    fs::copy(empty, cluster.service_db())?;
    cluster.start(Part::Service)?;
    cluster.turn_dual_write("on")
}

fn count(database: &Path, table: &str) -> Result<i64> {
    databases::number(database, &format!("SELECT count(*) FROM {table}"))
}

/// The same rows in the same tables with the same indexes and the same durability, in one transaction.
fn insert_select(cluster: &Cluster, empty: &Path) -> Result<Duration> {
    let path = cluster.folder().join("plain.db");
    if path.exists() {
        fs::remove_file(&path)?;
    }
    fs::copy(empty, &path)?;
    let connection = Connection::open(&path)?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")?;
    connection.execute("ATTACH ?1 AS source", [cluster.monolith_db().to_string_lossy()])?;
    let started = Instant::now();
    connection.execute_batch(INSERT_SELECT)?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(started.elapsed())
}

const INSERT_SELECT: &str = "
BEGIN;
INSERT INTO person (person_id, given_name, family_name, registered_ms, changed_ms, row_version)
SELECT id,
       CASE instr(name, ' ') WHEN 0 THEN name ELSE substr(name, 1, instr(name, ' ') - 1) END,
       CASE instr(name, ' ') WHEN 0 THEN NULL ELSE substr(name, instr(name, ' ') + 1) END,
       CAST(round(unixepoch(created_at, 'subsec') * 1000) AS INTEGER),
       CAST(round(unixepoch(updated_at, 'subsec') * 1000) AS INTEGER),
       version
FROM source.users_users;
INSERT INTO contact (person_id, kind, value) SELECT id, 'email', email FROM source.users_users;
INSERT INTO contact (person_id, kind, value)
SELECT id, 'phone', phone FROM source.users_users WHERE phone IS NOT NULL;
INSERT INTO address (person_id, position, label, street, city, postcode, country)
SELECT u.id, a.key, a.value ->> 'label', a.value ->> 'street', a.value ->> 'city', a.value ->> 'postcode',
       a.value ->> 'country'
FROM source.users_users u, json_each(u.addresses) a;
COMMIT;
";
