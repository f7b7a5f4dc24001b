//! Where PostgreSQL's programs are.
//!
//! Invariant: all programs come from one folder, so that they are of one version.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Names the folder of PostgreSQL's programs; it goes before `PATH`.
pub const BIN: &str = "PG_HARNESS_BIN";

/// Where Debian keeps a folder per version.
const DEBIAN: &str = "/usr/lib/postgresql";

const REMEDY: &str =
    "run `sudo apt-get install postgresql`, or name the folder of its programs in PG_HARNESS_BIN";

/// A folder that holds `initdb`, `pg_ctl`, `postgres` and `psql`.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    const NAMES: [&str; 4] = ["initdb", "pg_ctl", "postgres", "psql"];

    /// The folder named by [`BIN`], else the first one of `PATH`, else Debian's newest.
    pub fn find() -> Result<Self> {
        if let Some(folder) = env::var_os(BIN) {
            let folder = PathBuf::from(folder);
            let shown = folder.display().to_string();
            return Self::in_folder(folder)
                .with_context(|| format!("{BIN} is {shown}, which lacks PostgreSQL's programs; {REMEDY}"));
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let Some(found) = env::split_paths(&path).chain(debian_newest_first()).find_map(Self::in_folder)
        else {
            bail!("PostgreSQL is neither on PATH nor in {DEBIAN}; {REMEDY}");
        };
        Ok(found)
    }

    /// Where the program of that name is, for instance `pg_recvlogical`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn in_folder(folder: PathBuf) -> Option<Self> {
        // A link on PATH leads to the folder where its siblings are. Debian's own `psql` on PATH is a script in front
        // of the real one and takes several times as long to start.
        let initdb = fs::canonicalize(folder.join("initdb")).ok()?;
        let folder = initdb.parent()?.to_owned();
        Self::NAMES.iter().all(|name| folder.join(name).is_file()).then_some(Self { folder })
    }
}

/// `psql` alone, for a server that somebody else runs.
pub(crate) fn psql() -> PathBuf {
    Programs::find().map_or_else(|_| PathBuf::from("psql"), |programs| programs.path("psql"))
}

/// Runs a command to its end and returns what it printed; `remark` is asked for more words when it fails.
pub(crate) fn output(command: &mut Command, remark: impl FnOnce() -> String) -> Result<String> {
    let name =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}; {REMEDY}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} ended with {}: {}{}", output.status, told.trim(), remark());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn debian_newest_first() -> Vec<PathBuf> {
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut versions: Vec<u32> =
        versions.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|version| Path::new(DEBIAN).join(version.to_string()).join("bin")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_all_programs_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("initdb"), "").unwrap();
        assert!(Programs::in_folder(folder.path().to_owned()).is_none());
        for name in Programs::NAMES {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert!(Programs::in_folder(folder.path().to_owned()).is_some());
    }

    #[test]
    fn a_missing_program_is_reported_with_the_command_to_run() {
        let error = output(&mut Command::new("/nowhere/initdb"), String::new).unwrap_err().to_string();
        assert!(error.contains("initdb") && error.contains("sudo apt-get install postgresql"), "{error}");
    }
}
