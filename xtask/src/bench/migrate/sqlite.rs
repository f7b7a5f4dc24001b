//! Copying and verifying 3,000,000 rows from SQLite to SQLite against plain SQL.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::Binaries;
use rusqlite::Connection;

use super::copy::ROWS;
use super::world::Tool;
use super::{Measured, median, ratio};

const ROUNDS: usize = 3;
const TABLE: &str = "CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL, phone TEXT, \
     bio TEXT, balance REAL NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL)";
const PLAIN: &str = r#"
context = "users"

[[mapping]]
table = "users"
from = "users"
from_key = ["id"]
key = ["id"]
columns = ["id", "email", "name", "phone", "bio", "balance", "created_at", "updated_at"]
select = '''
SELECT u.id, u.email, u.name, u.phone, u.bio, u.balance, u.created_at, u.updated_at
FROM source.users AS u WHERE {keys u.id}
'''
"#;
const LENGTHS: &str = "SELECT sum(length(id) + length(email) + length(name) + coalesce(length(phone), 0) + length(bio) \
     + length(balance) + length(created_at) + length(updated_at)) FROM users";

/// Two files, and `migrate` between them.
pub(super) struct Files {
    pub(super) source: PathBuf,
    pub(super) target: PathBuf,
    pub(super) tool: Tool,
}

impl Files {
    /// A source with so many rows and an empty target.
    pub(super) fn with_rows(binaries: &Binaries, rows: u64) -> Result<Self> {
        let tool = Tool::new(binaries, "source.db", "target.db", PLAIN)?;
        let (source, target) = (tool.folder().join("source.db"), tool.folder().join("target.db"));
        let connection = Connection::open(&source)?;
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {TABLE};
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO users SELECT i, 'user' || i || '@example.com', 'First' || i || ' Last' || i,
               CASE WHEN i % 7 = 0 THEN NULL ELSE '+4670' || i END, hex(i * 2654435761) || hex(i * 40503),
               (i % 100000) / 100.0, strftime('%Y-%m-%dT%H:%M:%fZ', 1700000000 - i, 'unixepoch'),
               '2024-01-01T00:00:00.000Z' FROM n;"
        ))?;
        connection.pragma_update(None, "wal_checkpoint", "TRUNCATE")?;
        let files = Self { source, target, tool };
        files.fresh_target()?;
        Ok(files)
    }

    pub(super) fn fresh_target(&self) -> Result<()> {
        for suffix in ["", "-wal", "-shm"] {
            let path = PathBuf::from(format!("{}{suffix}", self.target.display()));
            if path.exists() {
                fs::remove_file(path)?;
            }
        }
        Connection::open(&self.target)?.execute_batch(&format!("PRAGMA journal_mode = WAL; {TABLE}"))?;
        Ok(())
    }
}

pub(super) fn against_plain_sql(binaries: &Binaries) -> Result<Vec<Measured>> {
    let files = Files::with_rows(binaries, ROWS)?;
    let (mut copies, mut verifications) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let theirs = insert_select(&files)?;
        files.fresh_target()?;
        files.tool.run(&["capture", "install", "users"])?.ok()?;
        let ours = files.tool.run(&["run", "users", "--until-caught-up"])?.ok()?.took;
        needs_equal_tables(&files)?;
        let lengths = lengths(&files)?;
        let verified = files.tool.run(&["verify", "users"])?.ok()?.took;
        files.tool.run(&["capture", "remove", "users"])?.ok()?;
        eprintln!(
            "SQLite round {round}: copy {:.2} s, INSERT … SELECT {:.2} s; verify {:.2} s, sum(length(…)) {:.2} s",
            ours.as_secs_f64(),
            theirs.as_secs_f64(),
            verified.as_secs_f64(),
            lengths.as_secs_f64()
        );
        copies.push(ratio(ours, theirs));
        verifications.push(ratio(verified, lengths));
    }
    Ok(vec![Measured::at_most(median(copies), 2.0), Measured::at_most(median(verifications), 4.0)])
}

/// In one transaction, into a table that has its indexes.
fn insert_select(files: &Files) -> Result<Duration> {
    files.fresh_target()?;
    let connection = Connection::open(&files.target)?;
    connection.execute("ATTACH ?1 AS source", [files.source.to_string_lossy()])?;
    let started = Instant::now();
    connection.execute_batch("INSERT INTO main.users SELECT * FROM source.users")?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(started.elapsed())
}

/// Over all columns of both, one file after the other.
fn lengths(files: &Files) -> Result<Duration> {
    let started = Instant::now();
    let mut sums = Vec::new();
    for path in [&files.source, &files.target] {
        sums.push(Connection::open(path)?.query_row(LENGTHS, [], |row| row.get::<_, i64>(0))?);
    }
    ensure!(sums.first() == sums.last(), "the tables differ");
    Ok(started.elapsed())
}

fn needs_equal_tables(files: &Files) -> Result<()> {
    let connection = Connection::open(&files.target)?;
    connection.execute("ATTACH ?1 AS source", [files.source.to_string_lossy()])?;
    let differing: i64 = connection.query_row(
        "SELECT (SELECT count(*) FROM (SELECT * FROM source.users EXCEPT SELECT * FROM main.users)) \
         + (SELECT abs((SELECT count(*) FROM source.users) - (SELECT count(*) FROM main.users)))",
        [],
        |row| row.get(0),
    )?;
    ensure!(differing == 0, "{differing} rows differ after the copy");
    Ok(())
}
