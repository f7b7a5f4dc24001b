//! The way back under seeded interleavings: several tables that both ways join, in pieces, with crashes between them.
//!
//! Invariant: what the monolith holds is judged by SQL of this file alone, after every batch that came to its end.

use std::path::Path;

use rusqlite::Connection;
use tempfile::TempDir;

use super::invariant::random::Random;
use crate::drivers::sqlite::{Durability, SqliteDriver, SqliteOptions};
use crate::engine::catch_up::Follower;
use crate::engine::{Driver as _, Phase, Source as _, Stream, StreamRow, Target as _};
use crate::error::MigrateError;
use crate::fail_point::FailPoints;
use crate::flow::{End, Flow};
use crate::manifest::Manifest;

const SEEDS: u64 = 40;
const BACK: Flow = Flow { from: End::Target, to: End::Source };
/// Every fifth owner is private, and never went to the service.
const MONOLITH: &str =
    "CREATE TABLE owner (id INTEGER PRIMARY KEY, name TEXT, kind TEXT NOT NULL DEFAULT 'public', num TEXT);
    CREATE TABLE call (owner_id INTEGER PRIMARY KEY, num TEXT, extra TEXT);
    INSERT INTO owner WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20)
        SELECT n, 'Name ' || n, CASE WHEN n % 5 = 0 THEN 'private' ELSE 'public' END, 'N' || n FROM n;
    INSERT INTO call SELECT id, num, name FROM owner;
    CREATE TABLE old_owner AS SELECT * FROM owner;
    CREATE TABLE old_call AS SELECT * FROM call;";
const SERVICE: &str = "CREATE TABLE person (pid INTEGER PRIMARY KEY, name TEXT, note TEXT);
    CREATE TABLE contact (pid INTEGER PRIMARY KEY, num TEXT);
    CREATE TABLE touched (pid INTEGER PRIMARY KEY);";
const MANIFEST: &str = r#"
context = "items"
[[mapping]]
table = "person"
key = ["pid"]
columns = ["pid", "name"]
from = "owner"
from_key = ["id"]
select = "SELECT o.id, lower(o.name) FROM source.owner AS o WHERE o.kind = 'public' AND {keys o.id}"
[[mapping]]
table = "contact"
key = ["pid"]
columns = ["pid", "num"]
from = "owner"
from_key = ["id"]
select = '''
SELECT c.owner_id, lower(c.num) FROM source.owner AS o JOIN source.call AS c ON c.owner_id = o.id
WHERE o.kind = 'public' AND {keys o.id}'''
[[mapping.join]]
table = "call"
columns = ["owner_id"]
[[inverse]]
table = "owner"
key = ["id"]
columns = ["id", "name", "num"]
from = "person"
from_key = ["pid"]
select = '''
SELECT p.pid, p.name, c.num FROM target.person AS p LEFT JOIN target.contact AS c ON c.pid = p.pid WHERE {keys p.pid}'''
[[inverse.join]]
table = "contact"
columns = ["pid"]
[[inverse]]
table = "call"
key = ["owner_id"]
columns = ["owner_id", "num"]
from = "contact"
from_key = ["pid"]
select = "SELECT c.pid, c.num FROM target.contact AS c WHERE {keys c.pid}"
"#;
/// What is wrong at the monolith `m`, given the service `s`.
const WRONG: &str = "
    SELECT 'owner ' || id || ' stayed' FROM m.owner WHERE kind = 'public' AND id NOT IN (SELECT pid FROM s.person)
    UNION ALL SELECT 'call ' || owner_id || ' stayed' FROM m.call
        WHERE owner_id NOT IN (SELECT pid FROM s.contact) AND owner_id NOT IN (SELECT id FROM m.old_owner WHERE kind = 'private')
    UNION ALL SELECT 'owner ' || p.pid FROM s.person AS p LEFT JOIN s.contact AS c ON c.pid = p.pid
        LEFT JOIN m.owner AS o ON o.id = p.pid WHERE lower(o.name) IS NOT p.name OR lower(o.num) IS NOT c.num
    UNION ALL SELECT 'call ' || pid FROM s.contact LEFT JOIN m.call ON owner_id = pid WHERE lower(call.num) IS NOT contact.num
    UNION ALL SELECT 'owner ' || id || ' rewritten' FROM (SELECT * FROM m.old_owner EXCEPT SELECT * FROM m.owner)
        WHERE id NOT IN (SELECT pid FROM s.touched)
    UNION ALL SELECT 'call ' || owner_id || ' rewritten' FROM (SELECT * FROM m.old_call EXCEPT SELECT * FROM m.call)
        WHERE owner_id NOT IN (SELECT pid FROM s.touched)";

struct World {
    _folder: TempDir,
    /// Knows nothing of capture.
    service: Connection,
    checker: Connection,
    driver: SqliteDriver,
    stream: Stream,
}

impl World {
    /// Equal at both ends, followed from here on.
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let [from, to] = ["monolith.db", "service.db"].map(|name| folder.path().join(name));
        let create = |path: &Path, sql: &str| {
            let conn = Connection::open(path).unwrap();
            conn.execute_batch("PRAGMA journal_mode = wal; PRAGMA synchronous = off").unwrap();
            conn.execute_batch(sql).unwrap();
            conn
        };
        let (_monolith, service) = (create(&from, MONOLITH), create(&to, SERVICE));
        let checker = Connection::open_in_memory().unwrap();
        for (file, name) in [(&from, "m"), (&to, "s")] {
            checker.execute(&format!("ATTACH ?1 AS {name}"), [file.display().to_string()]).unwrap();
        }
        let went = "FROM m.owner JOIN m.call ON owner_id = id WHERE kind = 'public'";
        checker
            .execute_batch(&format!(
                "INSERT INTO s.person SELECT id, lower(name), NULL {went}; INSERT INTO s.contact SELECT id, lower(call.num) {went}"
            ))
            .unwrap();
        let options = SqliteOptions { durability: Durability::Forgotten, ..SqliteOptions::default() };
        let driver = SqliteDriver::new(&from, &to, options).reversed();
        let stream = Manifest::parse(Path::new("extraction.toml"), MANIFEST).unwrap().stream(BACK).unwrap();
        let world = Self { _folder: folder, service, checker, driver, stream };
        world.start().unwrap();
        world
    }

    fn start(&self) -> Result<(), MigrateError> {
        let (mut source, mut target) = (self.driver.source()?, self.driver.target()?);
        source.install_capture(&self.stream)?;
        target.prepare(&self.stream)?;
        let pos = source.begin(&self.stream, None)?;
        let (fingerprint, mapping_hash) = (source.fingerprint(&self.stream)?, self.stream.hash());
        let phase = Phase::Following;
        let row = StreamRow { next: pos.clone(), pos, token: 0, phase, mapping_hash, fingerprint };
        target.create_stream(&self.stream.name, &row)
    }

    /// One transaction of the service's application, of one to four statements.
    fn write(&self, random: &mut Random) -> String {
        let mut sql = String::from("BEGIN IMMEDIATE;");
        for _ in 0..=random.below(4) {
            // Never the key of a private owner.
            let key = random.below(6) * 5 + 1 + random.below(4);
            let value = random.below(1000);
            let statement = [
                format!("DELETE FROM person WHERE pid = {key}; DELETE FROM contact WHERE pid = {key}"),
                format!("DELETE FROM person WHERE pid = {key}"),
                format!("DELETE FROM contact WHERE pid = {key}"),
                format!("INSERT OR REPLACE INTO person VALUES ({key}, 'p{value}', NULL)"),
                format!("INSERT OR REPLACE INTO contact VALUES ({key}, 'c{value}')"),
                format!("UPDATE person SET name = 'q{value}' WHERE pid = {key}"),
                format!("UPDATE contact SET num = 'd{value}' WHERE pid = {key}"),
            ];
            if random.once_in(3) {
                sql += &format!("UPDATE person SET note = '{value}', name = name WHERE pid = {key};");
                continue;
            }
            let statement = &statement[usize::try_from(random.below(statement.len() as u64)).unwrap()];
            sql += &format!("{statement}; INSERT OR IGNORE INTO touched VALUES ({key});");
        }
        sql += "COMMIT";
        self.service.execute_batch(&sql).unwrap();
        sql
    }

    /// Whether it came to its end.
    fn batch(&self, random: &mut Random) -> bool {
        let points = match random.below(3) {
            0 => FailPoints::crash_at(&format!("catch_up_piece:{}", 1 + random.below(8))),
            _ => FailPoints::none(),
        };
        let piece = 1 + u32::try_from(random.below(5)).unwrap();
        match Follower::claim(&self.driver, &self.stream, piece, &points)
            .and_then(|mut follower| follower.batch())
        {
            Ok(_) => true,
            Err(MigrateError::Crashed(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn wrong(&self) -> Vec<String> {
        let mut statement = self.checker.prepare_cached(WRONG).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }
}

#[test]
fn what_the_service_deletes_and_changes_reaches_the_monolith_and_nothing_else_does() {
    for seed in 0..SEEDS {
        let (world, mut random, mut story) = (World::new(), Random(seed), Vec::new());
        for _ in 0..30 {
            for _ in 0..=random.below(3) {
                story.push(world.write(&mut random));
            }
            let ended = world.batch(&mut random);
            story.push(format!("batch: {ended}"));
            let wrong = if ended { world.wrong() } else { Vec::new() };
            assert!(wrong.is_empty(), "seed {seed}: {wrong:?}\n{}", story.join("\n"));
        }
    }
}
