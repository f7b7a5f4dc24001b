//! What the tests that run binaries share.

use std::path::PathBuf;
use std::time::Duration;

use harness::http::{self, Answer, Ask};
use harness::load::{Load, LoadReport, LoadSettings};
use harness::process::{self, Launch, Output, Server};
use harness::{Binaries, Cluster, Part, binaries, databases};
use tempfile::TempDir;

/// How long a command or a wait may take where only a hang would take longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// The fail points of a switch, whatever keeps the service's data equal, as `migrate` names them.
pub(crate) const SWITCH_POINTS: [&str; 11] = [
    "switch_verified",
    "switch_held",
    "switch_acknowledged",
    "switch_fenced",
    "switch_drained",
    "switch_compared",
    "switch_prepared",
    "switch_flipped",
    "switch_opened",
    "switch_retired",
    "switch_finished",
];

/// The gzipped sample data.
pub(crate) fn sample_data() -> PathBuf {
    binaries::workspace().join("monolith/app/data/online-retail.csv.gz")
}

/// A monolith alone, without settings file and control store.
pub(crate) struct Lone {
    pub(crate) folder: TempDir,
    server: Option<Server>,
}

impl Lone {
    /// An empty folder; nothing runs.
    pub(crate) fn prepare() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), server: None }
    }

    /// A running monolith with an empty database.
    pub(crate) fn start() -> Self {
        let mut lone = Self::prepare();
        lone.serve();
        lone
    }

    pub(crate) fn serve(&mut self) {
        let launch = self.launch(&["serve"]).named("monolith").env("BANYAN_HTTP__LISTEN", "127.0.0.1:0");
        self.server = Some(Server::start(&launch, 1).unwrap());
    }

    pub(crate) fn launch(&self, args: &[&str]) -> Launch {
        Launch::new(Binaries::find().unwrap().path("monolith"), self.folder.path())
            .args(args.iter().copied())
            .named("command")
    }

    /// Runs a command of the monolith to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        process::run(&self.launch(args), PATIENCE).unwrap()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("monolith.db")
    }

    pub(crate) fn ask(&self, ask: Ask) -> Answer {
        http::call(self.server.as_ref().unwrap().url().unwrap(), ask).unwrap()
    }

    pub(crate) fn server(&mut self) -> Server {
        self.server.take().unwrap()
    }
}

/// A running system with the sample data and that many generated users.
pub(crate) fn cluster(users: u32) -> Cluster {
    Cluster::with_users(Binaries::find().unwrap(), users, 7).unwrap()
}

/// Dual-write on, everything copied and verified.
pub(crate) fn copy_users(cluster: &Cluster) {
    cluster.turn_dual_write("on").unwrap();
    cluster.migrate(&["backfill", "users"]).unwrap().ok().unwrap();
    verify(cluster);
}

pub(crate) fn verify(cluster: &Cluster) {
    cluster.migrate(&["verify", "users"]).unwrap().ok().unwrap();
}

pub(crate) fn switch(cluster: &Cluster, to: &str) {
    verify(cluster);
    cluster.migrate(&["switch", "users", "--to", to]).unwrap().ok().unwrap();
}

/// A load that debug builds on two busy cores can carry.
pub(crate) fn load(cluster: &Cluster) -> Load {
    let settings = LoadSettings { rate: 120, adopt: 20, ..LoadSettings::new(cluster.facade_url()) };
    Load::start(&settings).unwrap()
}

/// Lets the load go on for some requests.
pub(crate) fn work(load: &Load, requests: u64) {
    load.wait_for_requests(requests, PATIENCE).unwrap();
}

/// Both sides are equal, and the book of acknowledged writes is found on them.
pub(crate) fn close_the_books(cluster: &Cluster, report: &LoadReport) {
    cluster.wait_until_drained(PATIENCE).unwrap();
    let monolith = databases::monolith_users(&cluster.monolith_db()).unwrap();
    let service = databases::service_users(&cluster.service_db()).unwrap();
    let orders = databases::order_totals(&cluster.monolith_db()).unwrap();
    let told = [
        databases::differences(&monolith, &service),
        report.book.check_users(&monolith),
        report.book.check_users(&service),
        report.book.check_orders(&orders),
    ]
    .concat();
    assert!(told.is_empty(), "{} differences:\n{}", told.len(), told.join("\n"));
    assert!(report.book.acknowledged > 0, "the load wrote nothing");
    verify(cluster);
}

/// No request failed and no read showed what was never written.
pub(crate) fn assert_no_fault(report: &LoadReport) {
    assert_eq!(report.total.faults(), 0, "{}", report.total.faults_in_words());
}

/// The owner of users, as the control store says.
pub(crate) fn owner(cluster: &Cluster) -> String {
    let path = cluster.folder().join("control.db");
    let sql = "SELECT writes FROM flags WHERE context = 'users'";
    databases::open(&path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Whether a switch of users is in progress, as the control store says.
pub(crate) fn is_held(cluster: &Cluster) -> bool {
    let sql = "SELECT count(*) FROM flags WHERE context = 'users' AND hold_token IS NOT NULL";
    databases::number(&cluster.folder().join("control.db"), sql).unwrap() > 0
}

/// Starts a part again once it was killed.
pub(crate) fn restart(cluster: &mut Cluster, part: Part) {
    cluster.start(part).unwrap();
}
