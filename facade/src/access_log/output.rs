//! Where lines go.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes that are gathered before they are written.
pub(super) const MOST_BUFFERED: usize = 64 * 1024;

/// An open stream or file.
#[derive(Debug)]
pub(super) struct Output {
    place: Place,
    /// An error is told once, until it is over.
    failing: bool,
}

#[derive(Debug)]
enum Place {
    Stdout,
    Stderr,
    File(PathBuf, File),
}

impl Output {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let place = match path.to_str() {
            Some("stdout") => Place::Stdout,
            Some("stderr") => Place::Stderr,
            _ => {
                let reason = |error: io::Error| {
                    let words = "cannot open the access log; create its folder or change access_log.path";
                    io::Error::new(error.kind(), format!("{words}: {}: {error}", path.display()))
                };
                Place::File(path.to_owned(), append(path).map_err(reason)?)
            }
        };
        Ok(Self { place, failing: false })
    }

    /// A file that cannot be opened anew goes on as it was.
    pub(super) fn reopen(&mut self) {
        let Place::File(path, file) = &mut self.place else { return };
        match append(path) {
            Ok(opened) => *file = opened,
            Err(error) => tracing::warn!(%error, "cannot reopen the access log {}: {error}", path.display()),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        let written = match &mut self.place {
            Place::Stdout => io::stdout().lock().write_all(bytes).and_then(|()| io::stdout().flush()),
            Place::Stderr => io::stderr().lock().write_all(bytes),
            Place::File(_, file) => file.write_all(bytes),
        };
        if let (Err(error), false) = (&written, self.failing) {
            tracing::warn!(%error, "lines of the access log are lost: {error}");
        }
        self.failing = written.is_err();
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
