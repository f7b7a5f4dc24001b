//! `cargo xtask test`: what the tests need besides this workspace, then the binaries that they run, then every test.
//!
//! Invariant: no test is left out because something is missing. It is installed, or the run fails with what to run.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use pg_harness::{Cluster, Programs, URL};

use crate::shell::{self, cargo, run, target_folder, works};

/// Reads our OpenAPI document and tries the services against it. Pinned, because a newer one checks more.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// Names its executable for the tests; who sets it brings one along.
const SCHEMATHESIS_BIN: &str = "SCHEMATHESIS_BIN";

/// Where Debian's scripts look for settings of the server that they create with the package.
const DEBIAN_CLUSTERS: &str = "/etc/postgresql-common/createcluster.d";

pub(crate) fn run_all(arguments: &[String]) -> Result<()> {
    let target = target_folder()?;
    let schemathesis = schemathesis(&target)?;
    // With the tests in the same build, Cargo settles on one set of features and compiles no dependency twice.
    run(&mut cargo(&["build", "--workspace", "--bins", "--tests"]))?;
    let mut tests = cargo(&["test", "--workspace"]);
    tests.args(arguments).env("BANYAN_BIN_DIR", target.join("debug")).env(SCHEMATHESIS_BIN, schemathesis);
    // The cluster ends with its handle, also when tests fail.
    let cluster = cluster()?;
    if let Some(cluster) = &cluster {
        tests.env(URL, cluster.url("postgres"));
    }
    run(&mut tests)
}

/// The tests of the invariant of change capture, with one seed instead of thousands.
pub(crate) fn repeat(seed: u64, arguments: &[String]) -> Result<()> {
    let mut tests = cargo(&["test", "-p", "migrate", "--lib"]);
    tests.args(arguments).args(["--", "--nocapture", "every_key_"]);
    tests.env("BANYAN_SEED", seed.to_string()).env("BANYAN_PG_SEED", seed.to_string());
    let cluster = cluster()?;
    if let Some(cluster) = &cluster {
        tests.env(URL, cluster.url("postgres"));
    }
    run(&mut tests)
}

/// The cluster that all tests share; none if the environment names a server.
fn cluster() -> Result<Option<Cluster>> {
    if env::var_os(URL).is_some() {
        return Ok(None);
    }
    if let Err(error) = Programs::find() {
        eprintln!("{error:#}");
        install_postgresql()?;
    }
    Cluster::start().map(Some).context("cannot start PostgreSQL for the tests")
}

fn install_postgresql() -> Result<()> {
    if !shell::is_root()? {
        return shell::install_packages(&["postgresql"]);
    }
    // Left to itself, the package creates and starts a server that nobody asked for.
    let settings = Path::new(DEBIAN_CLUSTERS).join("banyan.conf");
    fs::create_dir_all(DEBIAN_CLUSTERS)?;
    fs::write(&settings, "create_main_cluster = false\n")?;
    let outcome = shell::install_packages(&["postgresql"]);
    fs::remove_file(&settings)?;
    outcome
}

/// The executable of schemathesis, installed once into a Python environment of its own.
fn schemathesis(target: &Path) -> Result<PathBuf> {
    if let Some(path) = env::var_os(SCHEMATHESIS_BIN) {
        return Ok(PathBuf::from(path));
    }
    let folder = target.join("schemathesis-venv");
    let executable = folder.join("bin/schemathesis");
    // Written last, so that a broken installation does not pass for a whole one.
    let installed = folder.join("installed");
    if fs::read_to_string(&installed).is_ok_and(|name| name == SCHEMATHESIS) {
        return Ok(executable);
    }
    let create = || {
        let mut command = Command::new("python3");
        command.args(["-m", "venv", "--clear"]).arg(&folder);
        command
    };
    if !works(&mut create()) {
        shell::install_packages(&["python3-venv"])?;
        run(&mut create())?;
    }
    let mut install = Command::new(folder.join("bin/pip"));
    run(install.args(["install", "--quiet", "--disable-pip-version-check", SCHEMATHESIS]))
        .with_context(|| format!("install it yourself and name its executable in {SCHEMATHESIS_BIN}"))?;
    fs::write(&installed, SCHEMATHESIS)?;
    Ok(executable)
}
