//! Programs that are not ours: curl as a client, Node as an upstream; certificates; and the facade as a process.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use crate::support::{Message, Upstream, Wire};

/// A process that ends with the test, whose standard output is read line by line.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    pub(crate) fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Node script that prints its port.
pub(crate) fn node(script: &str) -> (Process, SocketAddr) {
    let mut process = Process::start(Command::new("node").args(["-e", script]));
    let port: u16 = process.line().parse().unwrap();
    (process, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// What a Node script prints; it must succeed. `process.argv[1]` is the URL.
pub(crate) fn node_client(script: &str, url: &str) -> String {
    let output = Command::new("timeout").args(["30", "node", "-e", script, url]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What curl prints; it must succeed.
pub(crate) fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A certificate for `name` that ends in `year`, written as `NAME.pem` and `NAME.key`.
pub(crate) fn certify(folder: &Path, file: &str, name: &str, year: i32) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_after = date_time_ymd(year, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    // Moved into place, so that no half of a file is ever read.
    for (suffix, text) in [("key", key.serialize_pem()), ("pem", certificate.pem())] {
        let new = folder.join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, folder.join(format!("{file}.{suffix}"))).unwrap();
    }
}

/// `facade serve` in a folder of its own, in front of one upstream.
pub(crate) struct Served {
    pub(crate) folder: TempDir,
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
    admin: String,
}

pub(crate) fn served(upstream: &Upstream, settings: &str) -> Served {
    let folder = tempfile::tempdir().unwrap();
    for name in ["shop", "other"] {
        certify(folder.path(), name, &format!("{name}.example"), 2101);
    }
    let text = format!(
        "listen = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\nworkers = 2\n{settings}\n[control]\npath = 'control.db'\n\
         [upstreams.monolith]\nurl = 'http://{}'\n",
        upstream.address
    );
    fs::write(folder.path().join("facade.toml"), text).unwrap();
    let (process, address, tls, admin) = launch(folder.path(), "serve");
    Served { folder, process, address, tls, admin }
}

type Launched = (Process, SocketAddr, Option<SocketAddr>, String);

/// `facade serve` or `facade upgrade` with the settings in this folder.
fn launch(folder: &Path, word: &str) -> Launched {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facade"));
    // Elsewhere, so that paths beside the file are found beside it.
    command.arg(word).arg("--config").arg(folder.join("facade.toml")).current_dir("/");
    let mut process = Process::start(command.env("RUST_LOG", "warn"));
    let address = process.line().strip_prefix("listening http://").unwrap().parse().unwrap();
    let mut line = process.line();
    let tls = line.strip_prefix("listening https://").map(|address| address.parse().unwrap());
    if tls.is_some() {
        line = process.line();
    }
    let admin = line.strip_prefix("admin http://").unwrap().to_owned();
    (process, address, tls, admin)
}

impl Served {
    /// Starts a successor; what is returned is the process before it.
    pub(crate) fn upgrade(&mut self) -> Process {
        let (process, address, tls, admin) = launch(self.folder.path(), "upgrade");
        assert_eq!((address, tls, &admin), (self.address, self.tls, &self.admin));
        std::mem::replace(&mut self.process, process)
    }

    pub(crate) fn connect(&self) -> Wire {
        Wire::connect(self.address)
    }

    pub(crate) fn metrics(&self) -> String {
        let mut wire = Wire::connect(self.admin.parse().unwrap());
        wire.send("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n");
        wire.message().as_ref().map(Message::text).unwrap()
    }

    pub(crate) fn metric(&self, name: &str) -> String {
        let metrics = self.metrics();
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.rsplit(' ').next().unwrap_or_default().to_owned()
    }
}
