//! Two databases, the settings that name them, and the binary that copies one into the other.
//!
//! Invariant: a process that a world started is dead when its handle is dropped; waiting is for a condition, with a deadline.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pg_harness::Database;
use postgres::{Client, NoTls, SimpleQueryMessage};
use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

/// How long anything may take where only a hang would take longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) const SOURCE: &str =
    "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, name TEXT, price INTEGER);
    CREATE TABLE label (code TEXT NOT NULL PRIMARY KEY, text TEXT);
    INSERT INTO label VALUES ('a', 'first'), ('b', 'second');";
pub(crate) const TARGET: &str =
    "CREATE TABLE article (id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, title TEXT, price INTEGER, note TEXT);
    CREATE INDEX article_title ON article (title);
    CREATE TABLE label (code TEXT NOT NULL PRIMARY KEY, text TEXT);";
pub(crate) const MANIFEST: &str = r#"
context = "items"
[[mapping]]
table = "article"
key = ["id"]
columns = ["id", "code", "title", "price"]
from = "item"
from_key = ["id"]
select = "SELECT i.id, i.code, i.name, i.price FROM source.item AS i WHERE {keys i.id}"
[[mapping]]
table = "label"
key = ["code"]
columns = ["code", "text"]
from = "label"
from_key = ["code"]
select = "SELECT l.code, l.text FROM source.label AS l WHERE {keys l.code}"
"#;

/// Rows of every table, in one order at both ends.
const SAME: [(&str, &str); 2] = [
    (
        "SELECT id, code, name, price FROM item ORDER BY id",
        "SELECT id, code, title, price FROM article ORDER BY id",
    ),
    ("SELECT code, text FROM label ORDER BY code", "SELECT code, text FROM label ORDER BY code"),
];

/// Which databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    pub(crate) const BOTH: [Self; 2] = [Self::Sqlite, Self::Postgres];
}

/// One end of the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Target,
}

/// Databases, settings, and what was started on them.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) folder: TempDir,
    databases: Option<(Database, Database)>,
    started: AtomicU32,
}

impl World {
    /// With `rows` items at the source, an empty target, and capture installed.
    pub(crate) fn captured(engine: Engine, rows: u32) -> Self {
        let world = Self::with_rows(engine, rows);
        world.migrate(&["capture", "install", "items"]).expect_code(0);
        world
    }

    /// The same, completely copied.
    pub(crate) fn copied(engine: Engine, rows: u32) -> Self {
        let world = Self::captured(engine, rows);
        world.catch_up();
        world
    }

    /// Without capture.
    pub(crate) fn with_rows(engine: Engine, rows: u32) -> Self {
        let world = Self::bare(engine, SOURCE, TARGET);
        world.fill(rows);
        world
    }

    /// With tables of its own.
    pub(crate) fn bare(engine: Engine, source: &str, target: &str) -> Self {
        let database = || pg_harness::shared_database().unwrap();
        let databases = (engine == Engine::Postgres).then(|| (database(), database()));
        Self::between(databases, source, target)
    }

    /// On these databases, or else on SQLite files.
    pub(crate) fn between(databases: Option<(Database, Database)>, source: &str, target: &str) -> Self {
        let engine = if databases.is_some() { Engine::Postgres } else { Engine::Sqlite };
        let folder = tempfile::tempdir().unwrap();
        let world = Self { engine, folder, databases, started: AtomicU32::new(0) };
        if engine == Engine::Sqlite {
            let pragmas = "PRAGMA journal_mode = wal";
            world.query(End::Source, pragmas);
            world.query(End::Target, pragmas);
        }
        world.run_sql(End::Source, source);
        world.run_sql(End::Target, target);
        world.write_settings(&world.place(End::Source), &world.place(End::Target));
        world.write_manifest(MANIFEST);
        world
    }

    pub(crate) fn fill(&self, rows: u32) {
        self.run_sql(
            End::Source,
            &format!(
                "INSERT INTO item WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rows}) \
                 SELECT n, 'c' || n, 'item ' || n, n FROM n"
            ),
        );
    }

    /// As the settings name it.
    pub(crate) fn place(&self, end: End) -> String {
        match (&self.databases, end) {
            (None, End::Source) => "source.db".to_owned(),
            (None, End::Target) => "target.db".to_owned(),
            (Some((source, _)), End::Source) => source.url().to_owned(),
            (Some((_, target)), End::Target) => target.url().to_owned(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A key per transaction, so that a batch of catch-up takes its time.
    pub(crate) fn with_small_pieces(self) -> Self {
        let settings = fs::read_to_string(self.path("migrate.toml")).unwrap();
        fs::write(self.path("migrate.toml"), settings.replace("piece_keys = 5", "piece_keys = 1")).unwrap();
        self
    }

    pub(crate) fn write_settings(&self, source: &str, target: &str) {
        let text = format!(
            "[extractions.items]\nmanifest = \"extraction.toml\"\nsource = \"{source}\"\ntarget = \"{target}\"\n\
             [extractions.items.run]\nchunk_keys = 20\npiece_keys = 5\nlease_s = 5\n"
        );
        fs::write(self.path("migrate.toml"), text).unwrap();
    }

    /// In SQLite's dialect, where the source is a schema.
    pub(crate) fn write_manifest(&self, text: &str) {
        let text =
            if self.engine == Engine::Postgres { text.replace("source.", "") } else { text.to_owned() };
        fs::write(self.path("extraction.toml"), text).unwrap();
    }

    pub(crate) fn connect(&self, end: End) -> Session {
        match self.engine {
            Engine::Sqlite => {
                let conn = Connection::open(self.path(&self.place(end))).unwrap();
                conn.busy_timeout(PATIENCE).unwrap();
                Session::Sqlite(conn)
            }
            Engine::Postgres => {
                Session::Postgres(Box::new(Client::connect(&self.place(end), NoTls).unwrap()))
            }
        }
    }

    pub(crate) fn run_sql(&self, end: End, sql: &str) {
        self.connect(end).run(sql).unwrap();
    }

    pub(crate) fn query(&self, end: End, sql: &str) -> Vec<String> {
        self.connect(end).query(sql)
    }

    /// Runs the binary to its end.
    pub(crate) fn migrate(&self, args: &[&str]) -> Output {
        self.start(args).finish()
    }

    /// Starts it beside the test.
    pub(crate) fn start(&self, args: &[&str]) -> Job {
        self.start_with(args, "")
    }

    /// Starts it to die at a fail point.
    pub(crate) fn start_with(&self, args: &[&str], point: &str) -> Job {
        let mut command = Command::new(env!("CARGO_BIN_EXE_migrate"));
        command.args(args).env("BANYAN_FAIL_POINT", point);
        self.start_command(&mut command, &args.join(" "))
    }

    pub(crate) fn start_command(&self, command: &mut Command, line: &str) -> Job {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let (out, log) = (self.path(&format!("{number}.out")), self.path(&format!("{number}.log")));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&log).unwrap());
        Job { line: line.to_owned(), child: command.spawn().unwrap(), out, log }
    }

    /// Copies what is left and catches up.
    pub(crate) fn catch_up(&self) {
        self.migrate(&["run", "items", "--until-caught-up"]).expect_code(0);
    }

    pub(crate) fn is_equal(&self) -> bool {
        SAME.iter().all(|(source, target)| self.query(End::Source, source) == self.query(End::Target, target))
    }

    /// The rows of a chunk may all have come by catch-up before it is copied.
    pub(crate) fn has_no_chunk_left(&self) -> bool {
        let table = if self.engine == Engine::Sqlite { "banyan_chunks" } else { "banyan.chunk" };
        self.query(End::Target, &format!("SELECT count(*) FROM {table} WHERE NOT done")) == ["0"]
    }

    /// Both ends are equal, nothing is leased or locked, and the index that loading leaves out is there.
    pub(crate) fn assert_settled(&self) {
        for (source, target) in SAME {
            let (source, target) = (self.query(End::Source, source), self.query(End::Target, target));
            let only = |these: &[String], those: &[String]| {
                these.iter().filter(|row| !those.contains(row)).take(5).cloned().collect::<Vec<_>>()
            };
            assert!(
                source == target,
                "only at the source: {:?}; only at the target: {:?}",
                only(&source, &target),
                only(&target, &source)
            );
        }
        let index = match self.engine {
            Engine::Sqlite => "SELECT count(*) FROM sqlite_schema WHERE name = 'article_title'",
            Engine::Postgres => "SELECT count(*) FROM pg_class WHERE relname = 'article_title'",
        };
        assert!(self.has_no_chunk_left(), "chunks are left");
        assert_eq!(self.query(End::Target, index), ["1"], "the index was not built again");
        [End::Source, End::Target].iter().for_each(|end| self.assert_unlocked(*end));
    }

    fn assert_unlocked(&self, end: End) {
        match self.connect(end) {
            Session::Sqlite(conn) => {
                conn.busy_timeout(Duration::ZERO).unwrap();
                conn.execute_batch("BEGIN EXCLUSIVE; ROLLBACK").unwrap();
            }
            Session::Postgres(_) => until("no session of a dead process is left", || {
                let mine = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'migrate %' \
                    AND datname = current_database()";
                self.query(end, mine) == ["0"]
            }),
        }
    }

    /// Rows that chunks have copied.
    pub(crate) fn rows_copied(&self) -> u64 {
        let sql = match self.engine {
            Engine::Sqlite => "SELECT coalesce(sum(rows), 0) FROM banyan_chunks WHERE done",
            Engine::Postgres => "SELECT coalesce(sum(rows), 0) FROM banyan.chunk WHERE done",
        };
        self.query(End::Target, sql)[0].parse().unwrap()
    }
}

/// A connection that is not migrate's.
pub(crate) enum Session {
    Sqlite(Connection),
    Postgres(Box<Client>),
}

impl Session {
    /// Runs statements; if one fails, nothing of the transaction stays.
    pub(crate) fn run(&mut self, sql: &str) -> Result<(), String> {
        match self {
            Self::Sqlite(conn) => conn.execute_batch(sql).map_err(|error| {
                if !conn.is_autocommit() {
                    conn.execute_batch("ROLLBACK").unwrap();
                }
                error.to_string()
            }),
            Self::Postgres(client) => client.batch_execute(sql).map_err(|error| {
                let _ = client.batch_execute("ROLLBACK");
                format!("{error:?}")
            }),
        }
    }

    /// Rows as lines.
    pub(crate) fn query(&mut self, sql: &str) -> Vec<String> {
        match self {
            Self::Sqlite(conn) => {
                let mut statement = conn.prepare(sql).unwrap();
                let columns = statement.column_count();
                let line = |row: &rusqlite::Row<'_>| {
                    let texts = (0..columns).map(|at| shown(row.get_unwrap(at)));
                    Ok(texts.collect::<Vec<_>>().join("|"))
                };
                statement.query_map([], line).unwrap().map(Result::unwrap).collect()
            }
            Self::Postgres(client) => {
                let rows =
                    client.simple_query(sql).unwrap().into_iter().filter_map(|message| match message {
                        SimpleQueryMessage::Row(row) => Some(row),
                        _ => None,
                    });
                let line = |row: postgres::SimpleQueryRow| {
                    let texts = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned());
                    texts.collect::<Vec<_>>().join("|")
                };
                rows.map(line).collect()
            }
        }
    }
}

fn shown(value: Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text,
        Value::Blob(bytes) => format!("{bytes:?}"),
    }
}

/// A process beside the test.
pub(crate) struct Job {
    line: String,
    child: Child,
    out: PathBuf,
    log: PathBuf,
}

impl Job {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it said so far.
    pub(crate) fn said(&self) -> String {
        read(&self.log)
    }

    /// Ends it as `kill -9` does; tells whether it still ran.
    pub(crate) fn kill(mut self) -> bool {
        let ran = self.runs();
        self.child.kill().unwrap();
        // Only the exit status tells a kill from an end just before it.
        ran && self.child.wait().unwrap().signal() == Some(9)
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(self) -> Output {
        // The standard library sends SIGKILL only.
        let told = Command::new("kill").arg("-TERM").arg(self.pid().to_string()).status().unwrap();
        assert!(told.success(), "{} does not run any more: {}", self.line, self.said());
        self.finish()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn finish(mut self) -> Output {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "`migrate {}` does not end: {}", self.line, self.said());
            std::thread::sleep(Duration::from_millis(5));
        };
        let text = format!("{}{}", read(&self.out), read(&self.log));
        Output { line: self.line.clone(), status, text }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned()
}

/// How a process ended.
pub(crate) struct Output {
    line: String,
    status: ExitStatus,
    /// What it printed and said.
    pub(crate) text: String,
}

impl Output {
    /// It ended with this exit code.
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "`migrate {}`: {}", self.line, self.text);
        self
    }

    /// It said all of these.
    pub(crate) fn expect_words(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.text.contains(word), "`migrate {}` does not say {word:?}: {}", self.line, self.text);
        }
        self
    }

    /// It aborted, as it does at a fail point and nowhere else.
    pub(crate) fn expect_abort(self, point: &str) {
        let signal = self.status.signal();
        assert_eq!(signal, Some(6), "{point} was not reached by `migrate {}`: {}", self.line, self.text);
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
