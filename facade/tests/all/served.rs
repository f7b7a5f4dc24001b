//! The binary `facade`, serving two contexts, one of them with a database for both sides.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::{Message, Wire};

/// A running facade; dropping it kills it.
pub(crate) struct Served {
    pub(crate) folder: TempDir,
    pub(crate) process: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Kept, because a program whose output nobody can read may end.
    _lines: Lines<BufReader<ChildStdout>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Served {
    /// `more` stands at the top of the settings file.
    pub(crate) fn start(monolith: SocketAddr, service: SocketAddr, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "listen = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\n{more}\n[control]\npath = 'control.db'\n\
             [upstreams.monolith]\nurl = 'http://{monolith}'\n[upstreams.svc]\nurl = 'http://{service}'\n\
             [contexts.cart]\nservice = 'svc'\ndata = 'shared'\nkey = [{{ header = 'x-key' }}]\n\
             [contexts.users]\nservice = 'svc'\nkey = [{{ path_segment = '/users/{{key}}' }}]\n\
             [[routes]]\nprefix = '/cart'\ncontext = 'cart'\n[[routes]]\nprefix = '/users'\ncontext = 'users'\n"
        );
        fs::write(folder.path().join("facade.toml"), text).unwrap();
        let Serving { process, lines, address, admin } = serve(folder.path());
        Self { folder, process, address, admin, _lines: lines }
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Kills it, and starts another one in the same folder.
    pub(crate) fn start_again(&mut self) {
        let _ = self.process.kill();
        self.process.wait().unwrap();
        let Serving { process, lines, address, admin } = serve(self.folder.path());
        (self.process, self._lines, self.address, self.admin) = (process, lines, address, admin);
    }

    /// Asks the admin API; `request` lacks the headers that every request has.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Message {
        let mut wire = Wire::connect(self.admin);
        let length = body.len();
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        ));
        wire.message().unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = facade(self.folder.path());
        command.args(arguments).args(["--admin", &format!("http://{}", self.admin)]);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }
}

struct Serving {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
    admin: SocketAddr,
}

fn serve(folder: &Path) -> Serving {
    let mut process = facade(folder).arg("serve").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut listener = |word: &str| {
        let line = lines.next().unwrap().unwrap();
        line.strip_prefix(word).unwrap_or_else(|| panic!("{line}")).parse().unwrap()
    };
    let (address, admin) = (listener("listening http://"), listener("admin http://"));
    Serving { process, lines, address, admin }
}

fn facade(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facade"));
    command.current_dir(folder).env("USER", "ann").env("RUST_LOG", "warn");
    command
}
