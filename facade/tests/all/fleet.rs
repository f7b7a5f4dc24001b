//! Several facades, each a process of its own, on one control store.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use control::{ControlSettings, ControlStore, Verification, now_ms};
use pg_harness::Cluster;
use platform::settings::Secret;
use tempfile::TempDir;

use crate::support::{Upstream, Wire, who};

/// How long a hold lasts here: longer than a lease, and than any step of a switch takes on a loaded machine.
pub(crate) const HOLD_LIMIT_MS: i64 = 20_000;

#[derive(Debug, Clone, Copy)]
pub(crate) enum On {
    Sqlite,
    Postgres,
}

/// What the facades share.
pub(crate) struct Fleet {
    pub(crate) store: ControlStore,
    pub(crate) facades: Vec<Member>,
    pub(crate) monolith: Upstream,
    pub(crate) service: Upstream,
    folder: TempDir,
    control: ControlSettings,
    /// Dropped before its server.
    _database: Option<pg_harness::Database>,
    pub(crate) cluster: Option<Cluster>,
}

/// One facade.
pub(crate) struct Member {
    process: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Member {
    /// Ends it as a crash does: it says goodbye to nobody.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn admin(&self, path: &str) -> crate::support::Message {
        let mut wire = Wire::connect(self.admin);
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"));
        wire.message().unwrap()
    }

    /// Who answers a read of this key.
    pub(crate) fn side(&self, key: usize) -> String {
        let mut wire = Wire::connect(self.address);
        wire.send(format!("GET /items/{key} HTTP/1.1\r\nhost: a\r\n\r\n"));
        wire.message().unwrap().text()
    }
}

impl Fleet {
    /// Three facades; `items` is shared, `moves` is replicated and has passed every gate.
    pub(crate) fn start(on: On) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = matches!(on, On::Postgres).then(|| Cluster::durable().unwrap());
        let database = cluster.as_ref().map(|cluster| cluster.create_database().unwrap());
        let control = match &database {
            Some(database) => ControlSettings {
                url: Secret::new(database.url()),
                hold_limit_ms: HOLD_LIMIT_MS,
                answer_timeout_ms: 10_000,
                ..ControlSettings::default()
            },
            None => ControlSettings {
                path: folder.path().join("control.db"),
                hold_limit_ms: HOLD_LIMIT_MS,
                ..ControlSettings::default()
            },
        };
        let store = ControlStore::open(&control).unwrap();
        let mut fleet = Self {
            store,
            facades: Vec::new(),
            cluster,
            monolith: Upstream::saying("monolith"),
            service: Upstream::saying("service"),
            folder,
            control,
            _database: database,
        };
        for _ in 0..3 {
            fleet.add();
        }
        fleet.let_moves_pass();
        fleet
    }

    /// A file beside the settings.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Starts one facade more.
    pub(crate) fn add(&mut self) {
        let file = self.folder.path().join("facade.toml");
        let place = match self.control.url.expose() {
            // Relative on purpose: it stands beside the file, wherever the facade was started.
            "" => "path = 'control.db'\n".to_owned(),
            url => format!("url = '{url}'\n"),
        };
        let (monolith, service) = (self.monolith.address, self.service.address);
        let text = format!(
            "listen = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\nworkers = 1\n[control]\n{place}\
             hold_limit_ms = {HOLD_LIMIT_MS}\nanswer_timeout_ms = 5000\n[upstreams.monolith]\nurl = 'http://{monolith}'\n\
             [upstreams.svc]\nurl = 'http://{service}'\n\
             [contexts.items]\nservice = 'svc'\ndata = 'shared'\nkey = [{{ path_segment = '/items/{{key}}' }}]\n\
             [contexts.moves]\nservice = 'svc'\nkey = [{{ header = 'x-key' }}]\n\
             [[routes]]\nprefix = '/items'\ncontext = 'items'\n[[routes]]\nprefix = '/moves'\ncontext = 'moves'\n"
        );
        fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_facade"));
        command.current_dir("/").env("RUST_LOG", "error").arg("--config").arg(&file).arg("serve");
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut told = |prefix: &str| {
            let line = lines.next().unwrap();
            line.strip_prefix(prefix).unwrap().parse::<SocketAddr>().unwrap()
        };
        let (address, admin) = (told("listening http://"), told("admin http://"));
        self.facades.push(Member { process, address, admin });
    }

    fn let_moves_pass(&self) {
        self.store.set_dual_write("moves", true, &who()).unwrap();
        self.store.record_backfill("moves", 1).unwrap();
        let verification = Verification {
            context: "moves".to_owned(),
            clean: true,
            rows: 1,
            differences: 0,
            position: 1,
            mapping_hash: "m".to_owned(),
            evidence: "equal".to_owned(),
            at_ms: now_ms(),
        };
        self.store.record_verification(&verification).unwrap();
    }

    /// Whether every living facade holds the writes of `moves` under this token, and how many live.
    pub(crate) fn holding(&self, token: i64) -> (bool, usize) {
        let instances = self.store.instances().unwrap();
        let living: Vec<_> = instances.iter().filter(|instance| instance.live).collect();
        (living.iter().all(|instance| instance.holds("moves", token)), living.len())
    }

    /// Requests to every facade until the load is ended.
    pub(crate) fn load(&self, method: &'static str, path: &'static str) -> Load {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |address: SocketAddr| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || {
                let mut wire = Wire::connect(address);
                while !stop.load(Ordering::Relaxed) {
                    wire.send(format!("{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"));
                    assert_eq!(wire.message().unwrap().status(), 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                    // A steady load: without a pause it would take the processors from the tests beside.
                    thread::sleep(Duration::from_millis(2));
                }
            })
        };
        let clients = self.facades.iter().map(|facade| client(facade.address)).collect();
        Load { clients, stop, answered }
    }
}

/// Clients at work.
pub(crate) struct Load {
    clients: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

impl Load {
    /// How many requests were answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends it; panics if any request failed.
    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
    }
}
