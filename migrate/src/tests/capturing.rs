//! Facts about change capture as commands use it, on SQLite files.
//!
//! Invariant: the application is plain SQL on a connection of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::drivers::sqlite::{SqliteDriver, SqliteOptions, SqliteTarget};
use crate::engine::repair::{Writes, repair};
use crate::engine::run::{Adopt, Parts, RunOptions, Until};
use crate::engine::verify::{Kind, Mode, Report, VerifyOptions, verify};
use crate::engine::{Driver as _, Phase, RunReport, Source as _, Stop, Stream, Target as _, run};
use crate::error::MigrateError;
use crate::fail_point::FailPoints;
use crate::flow::{End, Flow};
use crate::manifest::Manifest;

const SOURCE: &str = "
    CREATE TABLE owner (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE item (id INTEGER PRIMARY KEY, owner_id INTEGER REFERENCES owner (id), name TEXT, price REAL,
        loud TEXT GENERATED ALWAYS AS (upper(name)) VIRTUAL);
    CREATE TABLE label (code TEXT NOT NULL UNIQUE, text TEXT);
    CREATE TABLE keyless (text TEXT);
    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
    INSERT INTO item (id, name, price) SELECT n, 'item ' || n, n * 1.5 FROM n;
    INSERT INTO label VALUES ('a', 'first'), ('b', 'second');";
const TARGET: &str = "
    CREATE TABLE article (id INTEGER PRIMARY KEY, title TEXT, price REAL, note TEXT);
    CREATE INDEX article_title ON article (title);
    CREATE TABLE label (code TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID;";
const MANIFEST: &str = r#"
context = "items"
[[mapping]]
table = "article"
key = ["id"]
columns = ["id", "title", "price"]
from = "item"
from_key = ["id"]
select = "SELECT i.id, i.name, i.price FROM source.item AS i WHERE {keys i.id}"
[[mapping]]
table = "label"
key = ["code"]
columns = ["code", "text"]
from = "label"
from_key = ["code"]
select = "SELECT l.code, l.text FROM source.label AS l WHERE {keys l.code}"
"#;

struct Bench {
    _folder: TempDir,
    driver: SqliteDriver,
    stream: Stream,
    source: Connection,
    target: Connection,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = |name: &str, schema: &str| {
            let conn = Connection::open(folder.path().join(name)).unwrap();
            conn.busy_timeout(Duration::from_secs(20)).unwrap();
            conn.execute_batch("PRAGMA journal_mode = wal; PRAGMA synchronous = off").unwrap();
            conn.execute_batch(schema).unwrap();
            conn
        };
        let (source, target) = (database("source.db", SOURCE), database("target.db", TARGET));
        let at = |name: &str| folder.path().join(name);
        let driver = SqliteDriver::new(&at("source.db"), &at("target.db"), SqliteOptions::default());
        let manifest = Manifest::parse(Path::new("extraction.toml"), MANIFEST).unwrap();
        let stream = manifest.stream(Flow { from: End::Source, to: End::Target }).unwrap();
        Self { _folder: folder, driver, stream, source, target }
    }

    fn copied() -> Self {
        let bench = Self::new();
        bench.driver.source().unwrap().install_capture(&bench.stream).unwrap();
        bench.run().unwrap();
        bench
    }

    fn run(&self) -> Result<RunReport, MigrateError> {
        self.run_until(Until::CaughtUp, &Stop::default())
    }

    fn run_until(&self, until: Until, stop: &Stop) -> Result<RunReport, MigrateError> {
        let (driver, stream) = (&self.driver, &self.stream);
        running(driver, stream, until, stop)
    }

    fn verify(&self, mode: Mode) -> Report {
        let options = VerifyOptions { mode, part_rows: 700, ..VerifyOptions::default() };
        verify(&self.driver, &self.stream, &options, &Stop::default(), &mut |_| {}).unwrap()
    }
}

/// Stops the run when the test ends early, so that its failure is seen.
struct Ended<'a>(&'a Stop);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn running(
    driver: &SqliteDriver,
    stream: &Stream,
    until: Until,
    stop: &Stop,
) -> Result<RunReport, MigrateError> {
    let mut options =
        RunOptions { until, parts: Parts::Both, adopt: Adopt::Nothing, ..RunOptions::default() };
    options.copier.chunk = 500;
    run(driver, stream, &options, stop, &FailPoints::none(), &mut |_| {})
}

#[test]
fn what_the_application_writes_during_a_run_arrives_and_verification_raises_no_alarm() {
    let bench = Bench::new();
    bench.driver.source().unwrap().install_capture(&bench.stream).unwrap();
    let (driver, stream, stop) = (bench.driver.clone(), bench.stream.clone(), Stop::default());
    std::thread::scope(|scope| {
        let _ended = Ended(&stop);
        let run = scope.spawn(|| running(&driver, &stream, Until::Stopped, &stop));
        for number in 0..600 {
            let key = 1 + number * 7_919 % 3_000;
            let sql = match number % 4 {
                0 => format!("DELETE FROM item WHERE id = {key}"),
                1 => format!("UPDATE OR REPLACE item SET id = id + 10000 WHERE id = {key}"),
                2 => format!("REPLACE INTO item (id, name) VALUES ({key}, 'again {number}')"),
                _ => format!("UPDATE item SET name = 'changed {number}' WHERE id = {key}"),
            };
            bench.source.execute_batch(&sql).unwrap();
        }
        bench.source.execute_batch("UPDATE label SET code = 'c' WHERE code = 'a'").unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let is_ready = |target: &mut SqliteTarget| {
            let row = target.stream(&stream.name).unwrap();
            row.is_some_and(|row| row.phase == Phase::Following) && target.chunks_left(&stream).unwrap().done
        };
        let mut target = bench.driver.target().unwrap();
        while !is_ready(&mut target) {
            assert!(Instant::now() < deadline, "the backfill does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let report = bench.verify(Mode::Full);
        assert_eq!(report.wrong(), 0, "{:?}", report.differences);
        stop.stop();
        run.join().unwrap().unwrap();
    });
    bench.run().unwrap();
    let report = bench.verify(Mode::Full);
    assert!(report.is_clean(), "{report:?}");
    let rows = |conn: &Connection, sql: &str| -> i64 { conn.query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(
        rows(&bench.source, "SELECT count(*) * 100000 + count(name) + sum(id) FROM item"),
        rows(&bench.target, "SELECT count(*) * 100000 + count(title) + sum(id) FROM article")
    );
    assert_eq!(rows(&bench.target, "SELECT count(*) FROM sqlite_schema WHERE name = 'article_title'"), 1);
}

#[test]
fn corrupted_rows_are_found_in_ranges_and_in_buckets_and_repaired() {
    let bench = Bench::copied();
    bench
        .target
        .execute_batch(
            "UPDATE article SET price = price + 1, note = 'ours' WHERE id = 5; DELETE FROM article WHERE id = 2000;
             INSERT INTO article (id) VALUES (9000); UPDATE label SET text = NULL WHERE code = 'b'",
        )
        .unwrap();
    let report = bench.verify(Mode::Full);
    let mut kinds: Vec<_> =
        report.differences.iter().map(|found| (found.table.as_str(), found.kind)).collect();
    kinds.sort_unstable();
    let expected = [
        ("article", Kind::Differs),
        ("article", Kind::Missing),
        ("article", Kind::Extra),
        ("label", Kind::Differs),
    ];
    assert_eq!(kinds, expected);
    let mut log = Vec::new();
    let points = FailPoints::none();
    let done = repair(&bench.driver, &bench.stream, &report, Writes::Yes, &mut log, &points).unwrap();
    assert!(done.left.is_empty() && done.repaired == 4, "{done:?}");
    assert!(bench.verify(Mode::Full).is_clean());
    let note: String =
        bench.target.query_row("SELECT note FROM article WHERE id = 5", [], |row| row.get(0)).unwrap();
    assert_eq!(note, "ours", "columns that are not mapped are left alone");
}

#[test]
fn a_table_that_was_altered_stops_the_run_and_says_so() {
    let bench = Bench::copied();
    bench.source.execute_batch("ALTER TABLE item ADD COLUMN size INTEGER").unwrap();
    let error = bench.run().unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    assert!(error.to_string().contains("schema"), "{error}");
}

#[test]
fn a_dropped_trigger_shows_in_the_state_of_capture() {
    let bench = Bench::copied();
    let state = || bench.driver.source().unwrap().capture_state(&bench.stream).unwrap();
    assert!(state().installed && state().faults.is_empty());
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'item' LIMIT 1";
    let trigger: String = bench.source.query_row(sql, [], |row| row.get(0)).unwrap();
    bench.source.execute_batch(&format!("DROP TRIGGER \"{trigger}\"")).unwrap();
    assert!(state().faults[0].contains("item"), "{:?}", state());
    bench.driver.source().unwrap().remove_capture(&bench.stream).unwrap();
    assert!(!state().installed);
}

#[test]
fn tables_are_described_with_the_key_that_tells_their_rows_apart() {
    let bench = Bench::new();
    let shapes = bench.driver.source().unwrap().describe().unwrap();
    let key = |name: &str| shapes.iter().find(|shape| shape.name == name).unwrap().key.join(", ");
    assert_eq!(["item", "owner", "label", "keyless"].map(key), ["id", "id", "code", ""]);
    let place = |name: &str| shapes.iter().position(|shape| shape.name == name).unwrap();
    assert!(place("owner") < place("item"), "a table that others refer to comes first");
    let item = &shapes[place("item")];
    let generated: Vec<_> = item.columns.iter().filter(|column| column.generated).collect();
    assert_eq!((generated.len(), generated[0].name.as_str()), (1, "loud"));
}

#[test]
fn the_log_behind_a_verification_is_kept_while_catch_up_goes_on_and_prunes() {
    let bench = Bench::copied();
    let (driver, stream, points) = (&bench.driver, &bench.stream, FailPoints::none());
    let options = VerifyOptions { part_rows: 700, keep_seconds: 600, ..VerifyOptions::default() };
    let mut parts = 0;
    let mut follow = |_: &Report| {
        parts += 1;
        let sql = format!("UPDATE item SET name = 'part {parts}' WHERE id = {parts}");
        bench.source.execute_batch(&sql).unwrap();
        crate::engine::catch_up::Follower::claim(driver, stream, 10, &points).unwrap().batch().unwrap();
        let (mut source, mut target) = (driver.source().unwrap(), driver.target().unwrap());
        crate::engine::prune::prune::<SqliteDriver>(&mut source, &mut target, stream).unwrap();
    };
    verify(driver, stream, &options, &Stop::default(), &mut follow).unwrap();
    assert!(parts > 3, "{parts}");
    let report = bench.verify(Mode::Dirty);
    assert!(report.is_clean(), "{report:?}");
    assert!(report.rows() >= 3, "{report:?}");
}
