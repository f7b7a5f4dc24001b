//! A source, a target and the settings that join them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::process::{Job, Launch, Output};
use harness::{Binaries, wait};
use pg_harness::{Cluster, Database};
use tempfile::TempDir;

use super::ticks;

/// No command of a bar takes longer.
const LIMIT: Duration = Duration::from_secs(900);
const SERVER: &str = "\nmax_wal_size = 4GB\nshared_buffers = 512MB\n";

/// The same table on both sides.
pub(super) const TABLE: &str = "CREATE TABLE users (id bigserial PRIMARY KEY, email text NOT NULL UNIQUE, \
     name text NOT NULL, phone text, bio text, balance numeric(12,2) NOT NULL, created_at timestamptz NOT NULL, \
     updated_at timestamptz NOT NULL)";

pub(super) const PLAIN: &str = r#"
context = "users"

[[mapping]]
table = "public.users"
from = "public.users"
from_key = ["id"]
key = ["id"]
columns = ["id", "email", "name", "phone", "bio", "balance", "created_at", "updated_at"]
select = '''
SELECT u.id, u.email, u.name, u.phone, u.bio, u.balance, u.created_at, u.updated_at
FROM public.users AS u WHERE {keys u.id}
'''
"#;

/// Two databases on one private server, and `migrate` between them.
pub(super) struct World {
    pub(super) source: Database,
    pub(super) target: Database,
    /// Dropped behind its databases.
    pub(super) cluster: Cluster,
    pub(super) tool: Tool,
}

impl World {
    /// A source with so many rows and an empty target.
    pub(super) fn with_rows(binaries: &Binaries, rows: u64) -> Result<Self> {
        let cluster = Cluster::tuned(SERVER)?;
        let (source, target) = (cluster.create_database()?, cluster.create_database()?);
        source.run(TABLE)?;
        source.run(&format!(
            "INSERT INTO users (email, name, phone, bio, balance, created_at, updated_at) \
             SELECT 'user' || i || '@example.com', 'First' || i || ' Last' || i, \
             CASE WHEN i % 7 = 0 THEN NULL ELSE '+4670' || i END, md5(i::text) || md5((i + 1)::text), \
             (i % 100000) / 100.0, now() - i * interval '1 second', now() FROM generate_series(1, {rows}) AS i"
        ))?;
        source.run("ANALYZE users")?;
        source.run("CHECKPOINT")?;
        let tool = Tool::new(binaries, source.url(), target.url(), PLAIN)?;
        Ok(Self { cluster, source, target, tool })
    }

    /// An empty target with this table.
    pub(super) fn fresh_target(&mut self, table: &str) -> Result<()> {
        self.target = self.cluster.create_database()?;
        self.target.run(table)?;
        self.target.run("CHECKPOINT")?;
        self.tool.point_at(self.source.url(), self.target.url())
    }

    /// Fails unless both tables hold the same rows.
    pub(super) fn needs_equal_tables(&self) -> Result<()> {
        self.needs_equal("SELECT * FROM users", "SELECT * FROM users")
    }

    /// Fails unless one select at the source and another at the target yield the same rows.
    pub(super) fn needs_equal(&self, expected: &str, found: &str) -> Result<()> {
        let sum = |rows: &str| {
            format!(
                "SELECT count(*), sum(('x' || substr(md5(row(u.*)::text), 1, 16))::bit(64)::bigint::numeric) FROM ({rows}) u"
            )
        };
        ensure!(
            self.source.run(&sum(expected))? == self.target.run(&sum(found))?,
            "the target differs from the source"
        );
        Ok(())
    }
}

/// `migrate` with settings of its own.
pub(super) struct Tool {
    binary: std::path::PathBuf,
    folder: TempDir,
}

impl Tool {
    pub(super) fn new(binaries: &Binaries, source: &str, target: &str, manifest: &str) -> Result<Self> {
        let tool = Self { binary: binaries.path("migrate"), folder: tempfile::tempdir()? };
        tool.point_at(source, target)?;
        tool.map_by(manifest)?;
        Ok(tool)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn point_at(&self, source: &str, target: &str) -> Result<()> {
        let settings = format!(
            "[extractions.users]\nmanifest = \"extraction.toml\"\nsource = \"{source}\"\ntarget = \"{target}\"\n"
        );
        Ok(fs::write(self.folder().join("migrate.toml"), settings)?)
    }

    pub(super) fn map_by(&self, manifest: &str) -> Result<()> {
        Ok(fs::write(self.folder().join("extraction.toml"), manifest)?)
    }

    /// Runs a command to its end, whatever its exit code.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Output> {
        harness::process::run(&self.launch(arguments), LIMIT)
    }

    /// Starts a command that goes on.
    pub(super) fn start(&self, arguments: &[&str]) -> Result<Job> {
        Job::start(&self.launch(arguments))
    }

    /// The most memory in MiB that a command held, which must end with one of these exit codes.
    pub(super) fn peak_mib(&self, arguments: &[&str], codes: &[i32]) -> Result<f64> {
        let mut job = self.start(arguments)?;
        let mut peak_kib = 0;
        let status = wait::until(&format!("{arguments:?} ends"), LIMIT, || {
            peak_kib = peak_kib.max(ticks::peak_memory_kib(job.pid()).unwrap_or_default());
            job.ended()
        })?;
        let code = status.code().context("it was killed")?;
        ensure!(codes.contains(&code), "{arguments:?} ended with {code}");
        Ok(peak_kib as f64 / 1024.0)
    }

    fn launch(&self, arguments: &[&str]) -> Launch {
        let name = arguments.first().copied().unwrap_or("migrate");
        Launch::new(&self.binary, self.folder()).named(name).args(arguments.iter().copied())
    }
}
