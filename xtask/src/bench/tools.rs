//! The tools that the project is measured against.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::shell;

/// Command, the argument that makes it end at once, and its Debian package.
const TOOLS: [(&str, &str); 4] =
    [("sqlite3", "--version"), ("nginx", "-v"), ("wrk", "-v"), ("pgcopydb", "--version")];

/// Installs what is missing when run as root; else says what to run.
pub(super) fn install_missing() -> Result<()> {
    let missing: Vec<&str> =
        TOOLS.into_iter().filter(|(name, flag)| !exists(name, flag)).map(|(name, _)| name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    shell::install_packages(&missing)
}

/// The command to start: on some systems `nginx` lies where only root looks.
pub(super) fn nginx() -> PathBuf {
    let beside = Path::new("/usr/sbin/nginx");
    if beside.is_file() { beside.to_owned() } else { PathBuf::from("nginx") }
}

/// `wrk -v` prints its version and ends with status 1, so only a command that cannot be started is missing.
fn exists(name: &str, flag: &str) -> bool {
    let program = if name == "nginx" { nginx() } else { PathBuf::from(name) };
    Command::new(program).arg(flag).output().is_ok()
}
