//! Reading the settings file.
//!
//! Invariant: what is read is a file of bounded size, so that reading ends, whatever the path leads to.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::SettingsError;

/// Bytes that a settings file may have; one that is larger is some other file.
const MOST_BYTES: usize = 1024 * 1024;

/// The text of a settings file.
pub fn read(path: &Path) -> Result<String, SettingsError> {
    let name = || path.display().to_string();
    let cannot = |reason: &str| SettingsError::Unreadable { path: name(), reason: reason.to_owned() };
    let system = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => SettingsError::NoFile { path: name() },
        ErrorKind::PermissionDenied => cannot(&format!("{error}; let this user read it")),
        _ => cannot(&error.to_string()),
    };
    let found = fs::metadata(path).map_err(system)?;
    if found.is_dir() {
        return Err(cannot("it is a folder; name the file in it"));
    }
    if !found.is_file() {
        return Err(cannot("it is no regular file; write the settings into one"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(system)?;
    file.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(system)?;
    if bytes.len() > MOST_BYTES {
        return Err(cannot("it is larger than 1 MiB, which no settings are; name another file"));
    }
    String::from_utf8(bytes).map_err(|_| cannot("it is not UTF-8 text; save it as UTF-8"))
}
