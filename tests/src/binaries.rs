//! Where the binaries under test are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The folder of the workspace's root.
pub fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// A folder that holds `monolith`, `users-service`, `facade`, `migrate` and `payment-provider`.
#[derive(Debug, Clone)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// The names of all binaries of the project.
    pub const NAMES: [&str; 5] = ["monolith", "users-service", "facade", "migrate", "payment-provider"];

    /// The binaries in that folder; all must be there.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Result<Self> {
        Self::some_in_folder(folder, &Self::NAMES)
    }

    /// The binaries in that folder, of which these must be there.
    pub fn some_in_folder(folder: impl Into<PathBuf>, names: &[&str]) -> Result<Self> {
        let found = Self { folder: folder.into() };
        for name in names {
            if !found.path(name).is_file() {
                bail!(
                    "{} is not built; run `cargo xtask test`, or `cargo build --bins` first",
                    found.path(name).display()
                );
            }
        }
        Ok(found)
    }

    /// The folder named by `BANYAN_BIN_DIR`, else the one that the running test was built into.
    pub fn find() -> Result<Self> {
        if let Some(folder) = env::var_os("BANYAN_BIN_DIR") {
            return Self::in_folder(folder);
        }
        let test = env::current_exe().context("cannot tell where the running test is")?;
        let folder = test.parent().and_then(Path::parent).context("the running test lies in no folder")?;
        Self::in_folder(folder)
    }

    /// Where the binary of that name is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binary_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let error = Binaries::in_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("monolith is not built") && error.contains("cargo xtask test"), "{error}");
    }
}
