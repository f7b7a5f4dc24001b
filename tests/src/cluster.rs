//! A whole system in one folder: monolith, users service, facade and the control store, on free ports, as a fresh
//! installation would have them.
//!
//! Invariant: every part keeps its port, its settings file and its database over kills and restarts, and only the
//! settings files say where the others are.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{self, Answer, Ask};
use crate::process::{Job, Launch, Output, Server};
use crate::shop::{self, Books, UNSETTLED};
use crate::{binaries, databases, ports, process, wait};

/// The longest that any command may take; those on large data are far below it.
const COMMAND_LIMIT: Duration = Duration::from_secs(600);
/// What the private endpoints ask for. The same in every cluster, so that a cluster left running can be used by hand.
const TOKEN: &str = "a-token-for-this-cluster-only";

/// One of the four servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The payment provider.
    Provider,
    /// The monolith.
    Monolith,
    /// The extracted users service.
    Service,
    /// The facade.
    Facade,
}

impl Part {
    /// All parts, in the order in which they start.
    pub const ALL: [Self; 4] = [Self::Provider, Self::Monolith, Self::Service, Self::Facade];

    /// The name of its binary, and of its settings file without `.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Provider => "payment-provider",
            Self::Monolith => "monolith",
            Self::Service => "users-service",
            Self::Facade => "facade",
        }
    }

    fn listeners(self) -> usize {
        if self == Self::Facade { 2 } else { 1 }
    }
}

/// A running system.
#[derive(Debug)]
pub struct Cluster {
    binaries: binaries::Binaries,
    folder: PathBuf,
    servers: Vec<(Part, Server)>,
    facade_url: String,
    // Last, so that the folder goes after the servers that write into it.
    temporary: Option<TempDir>,
}

impl Cluster {
    /// Writes the settings of a cluster into a temporary folder. Nothing runs yet.
    pub fn prepare(binaries: binaries::Binaries) -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("banyan-").tempdir()?;
        let folder = temporary.path().to_owned();
        let [monolith, service, facade, admin, provider] =
            [ports::free()?, ports::free()?, ports::free()?, ports::free()?, ports::free()?];
        let manifest = binaries::workspace().join("extracted/users/extraction.toml");
        write_settings(&folder, &[monolith, service, facade, admin, provider], &manifest)?;
        let facade_url = format!("http://127.0.0.1:{facade}");
        Ok(Self { binaries, folder, servers: Vec::new(), facade_url, temporary: Some(temporary) })
    }

    /// A cluster whose monolith has imported the sample data and that many generated users, all parts running.
    pub fn with_users(binaries: binaries::Binaries, users: u32, seed: u64) -> Result<Self> {
        let mut cluster = Self::prepare(binaries)?;
        cluster.import()?.ok()?;
        cluster.seed(users, seed)?.ok()?;
        for part in Part::ALL {
            cluster.start(part)?;
        }
        Ok(cluster)
    }

    /// Where everything of the cluster lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The monolith's database.
    pub fn monolith_db(&self) -> PathBuf {
        self.folder.join("monolith.db")
    }

    /// The service's database.
    pub fn service_db(&self) -> PathBuf {
        self.folder.join("users-service.db")
    }

    /// The facade's base URL, also while it does not run.
    pub fn facade_url(&self) -> &str {
        &self.facade_url
    }

    /// Starts a part and waits until it listens.
    pub fn start(&mut self, part: Part) -> Result<()> {
        let launch = self.launch(part.name()).args(["serve"]);
        let server = Server::start(&launch, part.listeners())?;
        self.servers.push((part, server));
        Ok(())
    }

    /// The running server of a part.
    pub fn server(&mut self, part: Part) -> Result<&mut Server> {
        let found = self.servers.iter_mut().find(|(running, _)| *running == part);
        found.map(|(_, server)| server).with_context(|| format!("the {} does not run", part.name()))
    }

    /// Ends a part with SIGKILL.
    pub fn kill(&mut self, part: Part) -> Result<()> {
        self.take(part)?.kill()
    }

    /// Asks a part to end and waits for it.
    pub fn stop(&mut self, part: Part) -> Result<()> {
        self.take(part)?.stop()
    }

    /// Kills a part and starts it again on the same port with the same data.
    pub fn crash(&mut self, part: Part) -> Result<()> {
        self.kill(part)?;
        self.start(part)
    }

    /// Sends a request to a part directly.
    pub fn http(&mut self, part: Part, ask: Ask) -> Result<Answer> {
        let url = self.server(part)?.url()?.to_owned();
        http::call(&url, ask)
    }

    /// `monolith import online-retail` of the sample data; the rejects go beside the database.
    pub fn import(&self) -> Result<Output> {
        let file = binaries::workspace().join("monolith/app/data/online-retail.csv.gz");
        let rejects = self.folder.join("rejects.csv");
        let (file, rejects) = (file.to_string_lossy(), rejects.to_string_lossy());
        self.monolith(&["import", "online-retail", &file, "--rejects", &rejects, "--json"])
    }

    /// `monolith seed`.
    pub fn seed(&self, users: u32, seed: u64) -> Result<Output> {
        self.monolith(&["seed", "--users", &users.to_string(), "--seed", &seed.to_string()])
    }

    /// Runs a command of the monolith's binary.
    pub fn monolith(&self, args: &[&str]) -> Result<Output> {
        process::run(&self.command("monolith", args), COMMAND_LIMIT)
    }

    /// Runs `migrate` with these arguments.
    pub fn migrate(&self, args: &[&str]) -> Result<Output> {
        process::run(&self.migrate_launch(args), COMMAND_LIMIT)
    }

    /// Runs `migrate … --json`; a failure is an error.
    pub fn migrate_json(&self, args: &[&str]) -> Result<Value> {
        self.migrate(&[args, &["--json"]].concat())?.ok()?.json()
    }

    /// What `migrate` with these arguments would be, to be started beside the test.
    pub fn migrate_launch(&self, args: &[&str]) -> Launch {
        self.command("migrate", args)
    }

    /// Starts `migrate` beside the test.
    pub fn migrate_job(&self, args: &[&str]) -> Result<Job> {
        Job::start(&self.migrate_launch(args).named("migrate-job"))
    }

    /// Turns the users' dual-write `on` or `off`.
    pub fn turn_dual_write(&self, to: &str) -> Result<()> {
        self.migrate(&["dual-write", "users", to])?.ok().map(drop)
    }

    /// Runs `facade flag …`.
    pub fn facade_flag(&self, args: &[&str]) -> Result<Output> {
        process::run(&self.command("facade", &[&["flag"], args].concat()), COMMAND_LIMIT)
    }

    /// Sets the share of users' reads that the service answers.
    pub fn set_reads(&self, percent: u32) -> Result<Output> {
        self.facade_flag(&["set", "users", "--reads", &percent.to_string(), "--reason", "test"])
    }

    /// Waits until the facade answers a users' request from that side.
    pub fn wait_for_side(&self, side: &str, limit: Duration) -> Result<()> {
        wait::until(&format!("the facade answers from the {side}"), limit, || {
            let answer = http::call(&self.facade_url, Ask::get("/api/v1/users?limit=1"))?;
            Ok((answer.header("banyan-side") == Some(side)).then_some(()))
        })
    }

    /// Every row of both databases compared; each difference in a line.
    pub fn differences(&self) -> Result<Vec<String>> {
        let monolith = databases::monolith_users(&self.monolith_db())?;
        let service = databases::service_users(&self.service_db())?;
        Ok(databases::differences(&monolith, &service))
    }

    /// Intents that neither side has delivered yet.
    pub fn undelivered(&self) -> Result<i64> {
        let sql = "SELECT count(*) FROM banyan_intents";
        Ok(databases::number(&self.monolith_db(), sql)? + databases::number(&self.service_db(), sql)?)
    }

    /// The figures of a part's relay since it started: `delivered`, `late`, `healed`, `pending`.
    pub fn relay(&mut self, part: Part) -> Result<Value> {
        let ask = Ask::get("/internal/v1/relay/users").header("authorization", format!("Bearer {TOKEN}"));
        let answer = self.http(part, ask)?;
        ensure!(answer.status == 200, "the figures of the relay were answered {}", answer.status);
        answer.json()
    }

    /// Waits until every dual-write has reached the other side.
    pub fn wait_until_drained(&self, limit: Duration) -> Result<()> {
        wait::until("all dual-writes are delivered", limit, || Ok((self.undelivered()? == 0).then_some(())))
    }

    /// The books of the trade, once everything under way has come to its end.
    pub fn books(&mut self, limit: Duration) -> Result<Books> {
        let path = self.monolith_db();
        wait::until("all checkouts and events are settled", limit, || {
            Ok((databases::number(&path, UNSETTLED)? == 0).then_some(()))
        })?;
        let ledger = shop::ledger(self.server(Part::Provider)?.url()?)?;
        Books::gather(&|sql| databases::rows(&path, sql), ledger)
    }

    /// Leaves everything running and the folder in place. Returns the process ids.
    pub fn keep(mut self) -> Vec<u32> {
        if let Some(temporary) = self.temporary.take() {
            // The path is known already; from now on nobody removes it.
            let _ = temporary.keep();
        }
        std::mem::take(&mut self.servers).into_iter().map(|(_, server)| server.let_go()).collect()
    }

    fn take(&mut self, part: Part) -> Result<Server> {
        let position = self.servers.iter().position(|(running, _)| *running == part);
        let position = position.with_context(|| format!("the {} does not run", part.name()))?;
        Ok(self.servers.remove(position).1)
    }

    fn launch(&self, name: &str) -> Launch {
        let config = self.folder.join(format!("{name}.toml"));
        Launch::new(self.binaries.path(name), &self.folder).args(["--config", &config.to_string_lossy()])
    }

    fn command(&self, name: &str, args: &[&str]) -> Launch {
        self.launch(name).args(args.iter().copied()).named(format!("{name}-command"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // A failed test is understood by what the servers said last.
        for (part, server) in &self.servers {
            eprintln!("--- last words of the {}:\n{}", part.name(), server.log_tail());
        }
    }
}

fn write_settings(folder: &Path, ports: &[u16; 5], manifest: &Path) -> Result<()> {
    let [monolith, service, facade, admin, provider] = ports;
    let control = "[control]\npath = \"control.db\"\n";
    let write = |name: &str, text: String| {
        let path = folder.join(format!("{name}.toml"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write(
        "payment-provider",
        format!(
            "[http]\nlisten = \"127.0.0.1:{provider}\"\n\n[ledger]\npath = \"payment-provider.ledger\"\n"
        ),
    )?;
    write(
        "monolith",
        format!(
            "[http]\nlisten = \"127.0.0.1:{monolith}\"\n\n[database]\npath = \"monolith.db\"\n\n{control}\n\
             [users]\nwiring = \"flag\"\n\n[users.remote]\nurl = \"http://127.0.0.1:{service}\"\ntoken = \"{TOKEN}\"\n\n\
             [replication]\ntoken = \"{TOKEN}\"\n\n[payments.provider]\nurl = \"http://127.0.0.1:{provider}\"\n"
        ),
    )?;
    write(
        "users-service",
        format!(
            "[http]\nlisten = \"127.0.0.1:{service}\"\n\n[database]\npath = \"users-service.db\"\n\n{control}\n\
             [replication]\nurl = \"http://127.0.0.1:{monolith}\"\ntoken = \"{TOKEN}\"\n"
        ),
    )?;
    write(
        "facade",
        format!(
            "listen = \"127.0.0.1:{facade}\"\nadmin_listen = \"127.0.0.1:{admin}\"\nmonolith = \"monolith\"\n\
             private = [\"/replica\", \"/internal\"]\n\n{control}\n\
             [upstreams.monolith]\nurl = \"http://127.0.0.1:{monolith}\"\n\n\
             [upstreams.users-service]\nurl = \"http://127.0.0.1:{service}\"\n\n\
             [contexts.users]\nservice = \"users-service\"\ndata = \"replicated\"\n\
             key = [{{ path_segment = \"/api/v1/users/{{key}}\" }}, {{ header = \"x-user-id\" }}]\n\n\
             [[routes]]\nprefix = \"/api/v1/users\"\ncontext = \"users\"\n"
        ),
    )?;
    write(
        "migrate",
        format!(
            "{control}\n[extractions.users]\nmanifest = {}\nsource = \"monolith.db\"\ntarget = \"users-service.db\"\n\
             target_health = \"http://127.0.0.1:{service}/health/ready\"\n\
             source_health = \"http://127.0.0.1:{monolith}/health/ready\"\n",
            Value::from(manifest.to_string_lossy())
        ),
    )
}
