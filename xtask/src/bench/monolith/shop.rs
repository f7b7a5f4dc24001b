//! A shop on a database of its own: the sample data, generated users, and the processes on it.
//!
//! Invariant: everything of a shop ends and vanishes with its handle.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use harness::process::{self, Launch, Server};
use harness::{Binaries, binaries};
use pg_harness::{Cluster, Database};
use tempfile::TempDir;

/// How long a command that fills the database may take.
const LIMIT: Duration = Duration::from_secs(300);

/// What the shop keeps its data in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Backend {
    Sqlite,
    Postgres,
}

/// Fields in the order in which they end.
pub(super) struct Shop {
    binaries: Binaries,
    pub(super) postgres: Option<Postgres>,
    folder: TempDir,
}

pub(super) struct Postgres {
    pub(super) database: Database,
    pub(super) cluster: Cluster,
}

impl Shop {
    /// A shop without a schema.
    pub(super) fn empty(binaries: &Binaries, backend: Backend) -> Result<Self> {
        let postgres = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => {
                // As a shop would run it: a commit waits for the disk.
                let cluster = Cluster::durable()?;
                Some(Postgres { database: cluster.create_database()?, cluster })
            }
        };
        Ok(Self { binaries: binaries.clone(), postgres, folder: tempfile::tempdir()? })
    }

    /// A shop with the sample data's products, orders and customers, and that many generated users more.
    pub(super) fn stocked(binaries: &Binaries, backend: Backend, users: u32) -> Result<Self> {
        let shop = Self::empty(binaries, backend)?;
        let file = binaries::workspace().join("monolith/app/data/online-retail.csv.gz");
        shop.run(&["import", "online-retail", &file.to_string_lossy(), "--rejects", "rejects.csv"])?;
        shop.run(&["seed", "--users", &users.to_string()])?;
        Ok(shop)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The SQLite file.
    pub(super) fn file(&self) -> PathBuf {
        self.folder().join("monolith.db")
    }

    /// Runs a command of the monolith to its end.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<()> {
        process::run(&self.launch().args(arguments.iter().copied()).named("command"), LIMIT)?.ok()?;
        Ok(())
    }

    /// A serving monolith with these settings besides its database.
    pub(super) fn monolith(&self, settings: &[(&str, &str)]) -> Result<Server> {
        let launch = self.launch().args(["serve"]).env("BANYAN_HTTP__LISTEN", "127.0.0.1:0");
        Server::start(&settings.iter().fold(launch, |launch, (name, value)| launch.env(*name, *value)), 1)
    }

    /// A command of the bare peer on the same database.
    pub(super) fn bare_peer(&self, command: &str) -> Launch {
        let database = match &self.postgres {
            Some(postgres) => postgres.database.url().to_owned(),
            None => self.file().to_string_lossy().into_owned(),
        };
        let launch = Launch::new(self.binaries.path("bare-peer"), self.folder());
        launch.args(["--database", &database, command])
    }

    /// A payment provider that behaves.
    pub(super) fn provider(&self) -> Result<Server> {
        let launch = Launch::new(self.binaries.path("payment-provider"), self.folder());
        Server::start(&launch.env("BANYAN_HTTP__LISTEN", "127.0.0.1:0"), 1)
    }

    fn launch(&self) -> Launch {
        let launch = Launch::new(self.binaries.path("monolith"), self.folder());
        match &self.postgres {
            Some(postgres) => launch.env("BANYAN_DATABASE__URL", postgres.database.url()),
            None => launch.env("BANYAN_DATABASE__PATH", "monolith.db"),
        }
    }
}
