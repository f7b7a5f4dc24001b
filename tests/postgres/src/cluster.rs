//! A private cluster: its data, its server and everything they leave behind are gone when its owner is.
//!
//! Invariant: the server does not outlive the process that started it, even when that is killed: a watchdog holds the
//! other end of a pipe that closes with the owner, then stops the server and removes the folder.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

use crate::programs::{Programs, output};
use crate::signals::{children, signal, suspend};
use crate::{Database, Server};

/// Below the range from which Linux takes the ports of outgoing connections, so that a server that comes back finds its
/// port free.
const FIRST_PORT: u16 = 30_000;
const PORTS: u16 = 2_700;

const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
wal_level = logical
max_connections = 200
max_prepared_transactions = 20
max_replication_slots = 100
max_wal_senders = 100
shared_buffers = 32MB
";

/// Survives the end of the server but not that of the machine, which would end the tests as well.
const FAST: &str = "
fsync = off
full_page_writes = off
synchronous_commit = off
";

/// Waits for its owner's end. A frozen server hears no other signal before it goes on.
const WATCHDOG: &str = r#"
cat > /dev/null
server=$(head -n 1 "$1/data/postmaster.pid") && kill -CONT "$server"
"$2" stop --pgdata "$1/data" --mode immediate
rm -rf "$1"
"#;

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Connections are cut, everything is written out.
    Fast,
    /// All processes end at once and nothing is written out, as in a crash; the next start recovers.
    Immediate,
}

/// A running private cluster; dropped, it is stopped and removed.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    account: Option<(u32, u32)>,
    programs: Programs,
    port: u16,
    server: Server,
    watchdog: Child,
}

impl Cluster {
    /// A cluster that does not wait for the disk and acknowledges commits before they are in the log: one that is
    /// stopped in [`Mode::Immediate`] may lose the last of them.
    pub fn start() -> Result<Self> {
        Self::with_settings(FAST)
    }

    /// A cluster that keeps what it acknowledged, for tests that stop it in [`Mode::Immediate`].
    pub fn durable() -> Result<Self> {
        Self::with_settings("")
    }

    /// A cluster with settings of its own, as lines of `postgresql.conf`.
    pub fn tuned(settings: &str) -> Result<Self> {
        Self::with_settings(settings)
    }

    /// A cluster that speaks TLS and does not wait for the disk: its certificate and key, and the certificate of the authority
    /// that it trusts to sign its clients', as PEM.
    pub fn with_tls(certificate: &str, key: &str, authority: &str) -> Result<Self> {
        let files = [("server.crt", certificate), ("server.key", key), ("root.crt", authority)];
        Self::with_files(&format!("{FAST}ssl = on\nssl_ca_file = 'root.crt'\n"), &files)
    }

    fn with_settings(settings: &str) -> Result<Self> {
        Self::with_files(settings, &[])
    }

    /// With more files in the folder of its data, which only its owner may read.
    fn with_files(settings: &str, files: &[(&str, &str)]) -> Result<Self> {
        let programs = Programs::find()?;
        let folder = tempfile::Builder::new().prefix("pg-harness-").tempdir()?;
        let account = account(folder.path())?;
        if let Some((user, group)) = account {
            chown(folder.path(), Some(user), Some(group))?;
        }
        let watchdog = watch(folder.path(), account, &programs)?;
        // From here on the watchdog removes the folder.
        let folder = folder.keep();
        let server = Server::parse("postgres://postgres@127.0.0.1:0/postgres")?;
        let mut cluster = Self { folder, account, programs, port: 0, server, watchdog };
        cluster.create(settings)?;
        for (name, text) in files {
            cluster.write_own(name, text)?;
        }
        cluster.start_on_a_free_port()?;
        Ok(cluster)
    }

    /// The server, for whoever needs no more than its URL.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The URL of a database; it stays the same when the server is started again.
    pub fn url(&self, database: &str) -> String {
        self.server.url(database)
    }

    /// Creates an empty database.
    pub fn create_database(&self) -> Result<Database> {
        self.server.create_database()
    }

    /// The process id of the server's first process.
    pub fn pid(&self) -> Result<u32> {
        let file = self.folder.join("data/postmaster.pid");
        let text = fs::read_to_string(file).context("the PostgreSQL server does not run")?;
        text.lines().next().unwrap_or_default().parse().context("postmaster.pid holds no process id")
    }

    /// Stops the server and waits for its end.
    pub fn stop(&self, mode: Mode) -> Result<()> {
        let mode = match mode {
            Mode::Fast => "fast",
            Mode::Immediate => "immediate",
        };
        self.pg_ctl(&["stop", "--mode", mode])
    }

    /// Starts a stopped server again, on the same port, and waits until it accepts connections.
    pub fn start_again(&self) -> Result<()> {
        self.pg_ctl(&["start", "--log", &self.log(), "--options", &format!("-p {}", self.port)])
    }

    /// Stops the server in the given mode and starts it again.
    pub fn restart(&self, mode: Mode) -> Result<()> {
        self.stop(mode)?;
        self.start_again()
    }

    /// Suspends every process of the server: connections stay open, and nothing answers. Needs Linux's /proc.
    pub fn freeze(&self) -> Result<()> {
        let first = self.pid()?;
        // The first process creates the others and therefore goes first. The others are not in its process group.
        suspend(&[first])?;
        suspend(&children(first)?)
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) -> Result<()> {
        let first = self.pid()?;
        signal("-CONT", &children(first)?)?;
        signal("-CONT", &[first])
    }

    fn create(&self, settings: &str) -> Result<()> {
        let mut initdb = self.command("initdb");
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]);
        output(initdb.arg("--pgdata").arg(self.data()), String::new)?;
        let mut file = OpenOptions::new().append(true).open(self.data().join("postgresql.conf"))?;
        let folder = self.folder.display();
        Ok(write!(file, "{SETTINGS}unix_socket_directories = '{folder}'{settings}")?)
    }

    fn write_own(&self, name: &str, text: &str) -> Result<()> {
        let file = self.data().join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)?
            .write_all(text.as_bytes())?;
        if let Some((user, group)) = self.account {
            chown(&file, Some(user), Some(group))?;
        }
        Ok(())
    }

    fn start_on_a_free_port(&mut self) -> Result<()> {
        self.port = free_port()?;
        // Somebody else may have taken the port after it was tried.
        if self.start_again().is_err() {
            self.port = free_port()?;
            self.start_again()?;
        }
        self.server = Server::at(&format!("postgres://postgres@127.0.0.1:{}/postgres", self.port))?;
        Ok(())
    }

    fn pg_ctl(&self, arguments: &[&str]) -> Result<()> {
        let mut pg_ctl = self.command("pg_ctl");
        pg_ctl.args(arguments).args(["--silent", "--wait", "--pgdata"]).arg(self.data());
        let log = || format!("\n{}", last_lines(&fs::read_to_string(self.log()).unwrap_or_default()));
        output(&mut pg_ctl, log).map(|_| ())
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> String {
        self.folder.join("log").display().to_string()
    }

    fn command(&self, name: &str) -> Command {
        command(&self.programs.path(name), &self.folder, self.account)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A frozen server would take seconds to be stopped; one that is stopped already cannot be thawed.
        let _ = self.thaw();
        drop(self.watchdog.stdin.take());
        // It can fail only if somebody else has waited for the watchdog, which then has ended.
        let _ = self.watchdog.wait();
    }
}

/// The user and group to run the server as; none where the owner of the tests will do. PostgreSQL refuses root.
fn account(own_folder: &Path) -> Result<Option<(u32, u32)>> {
    if fs::metadata(own_folder)?.uid() != 0 {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let ids = |name| accounts.lines().find_map(|line| ids_of(line, name));
    let found = ids("postgres").or_else(|| ids("nobody"));
    Ok(Some(found.context("PostgreSQL does not run as root, and there is no user postgres or nobody")?))
}

fn ids_of(line: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = line.strip_prefix(name)?.strip_prefix(':')?.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn watch(folder: &Path, account: Option<(u32, u32)>, programs: &Programs) -> Result<Child> {
    let mut shell = command(Path::new("/bin/sh"), folder, account);
    shell.arg("-c").arg(WATCHDOG).arg("watchdog").arg(folder).arg(programs.path("pg_ctl"));
    // In a process group of its own, it does not hear what a terminal sends to end the tests.
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    shell.spawn().context("cannot start /bin/sh")
}

fn command(program: &Path, folder: &Path, account: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    if let Some((user, group)) = account {
        command.uid(user).gid(group);
    }
    command
}

fn free_port() -> Result<u16> {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    // Processes that run side by side begin far from each other.
    let start = u16::try_from(std::process::id().wrapping_mul(7919) % u32::from(PORTS))?;
    for _ in 0..PORTS {
        let port = FIRST_PORT + start.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {FIRST_PORT} to {} is free; stop programs that listen there", FIRST_PORT + PORTS - 1)
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        assert_eq!(ids_of("postgres:x:101:104:administrator:/var:/bin/bash", "postgres"), Some((101, 104)));
        assert_eq!(ids_of("postgres2:x:101:104:::", "postgres"), None);
    }
}
