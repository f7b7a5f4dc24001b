//! The ledger: the book, kept in an append-only journal of JSON lines.
//!
//! Invariant: an entry is on the disk before anybody hears of it. After a failed write nothing is written any more,
//! because only a restart can tell how much of the entry arrived.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::book::{Book, Command, Entry, Record, Refusal};

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be used.
    #[error("cannot use the ledger {path} (setting ledger.path)")]
    File {
        /// Where it is.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another provider writes it.
    #[error("the ledger {path} is in use; stop the other provider, or set ledger.path")]
    InUse {
        /// Where it is.
        path: String,
    },
    /// A line before the last one is none of ours.
    #[error("the ledger {path} is damaged in line {line}; restore it, or move it away to begin a new one")]
    Damaged {
        /// Where it is.
        path: String,
        /// The first line that cannot be read, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// What a command led to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) record: Record,
    /// Whether this command brought it about; otherwise an earlier one had.
    pub(crate) is_new: bool,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) book: Book,
    journal: File,
    is_broken: bool,
}

impl Ledger {
    /// Opens the journal, creates it where it is missing, cuts off a torn last line and replays the rest.
    pub(crate) fn open(path: &Path) -> Result<Self, LedgerError> {
        let shown = || path.display().to_string();
        let mut journal = open_locked(path).map_err(|error| match error {
            TryLockError::WouldBlock => LedgerError::InUse { path: shown() },
            TryLockError::Error(source) => LedgerError::File { path: shown(), source },
        })?;
        let lines =
            complete_lines(&mut journal).map_err(|source| LedgerError::File { path: shown(), source })?;
        let mut book = Book::default();
        for (index, line) in lines.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let entry: Entry = serde_json::from_slice(line).map_err(|source| LedgerError::Damaged {
                path: shown(),
                line: index + 1,
                source,
            })?;
            book.apply(entry);
        }
        Ok(Self { book, journal, is_broken: false })
    }

    /// Carries a command out, if that is not done yet.
    pub(crate) fn carry_out(&mut self, command: &Command) -> Result<Done, Refusal> {
        let entry = self.book.decide(command)?;
        let is_new = entry.is_some();
        if let Some(entry) = entry {
            self.append(&entry)?;
            self.book.apply(entry);
        }
        self.book.answer(command).map(|record| Done { record, is_new })
    }

    /// Whether it can be written, for the health check.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.is_broken { Err(Refusal::Unwritable.to_string()) } else { Ok(()) }
    }

    fn append(&mut self, entry: &Entry) -> Result<(), Refusal> {
        self.check().map_err(|_| Refusal::Unwritable)?;
        let written = serde_json::to_vec(entry).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            self.journal.write_all(&line)?;
            self.journal.sync_data()
        });
        written.map_err(|error| {
            self.is_broken = true;
            tracing::error!(%error, "the ledger cannot be written: {error}");
            Refusal::Unwritable
        })
    }
}

fn open_locked(path: &Path) -> Result<File, TryLockError> {
    let file =
        OpenOptions::new().read(true).append(true).create(true).open(path).map_err(TryLockError::Error)?;
    file.try_lock()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A new file is only as durable as the folder's entry for it.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(TryLockError::Error)?;
    Ok(file)
}

/// The bytes up to the last line's end. What follows was never answered, and is cut off so that the next entry does
/// not grow onto it.
fn complete_lines(journal: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    journal.read_to_end(&mut bytes)?;
    let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    if complete < bytes.len() {
        tracing::warn!(bytes = bytes.len() - complete, "a torn last line was cut off the ledger");
        bytes.truncate(complete);
        journal.set_len(u64::try_from(complete).map_err(io::Error::other)?)?;
    }
    // Also what a process wrote that died before it could sync: once replayed, it is answered from.
    journal.sync_all()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn authorize(key: &str) -> Command {
        let terms =
            json!({ "amount": { "minor": 5, "currency": "GBP" }, "payment_method": "pm_ok" }).to_string();
        Command::Authorize { key: key.to_owned(), terms: serde_json::from_str(&terms).unwrap() }
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_the_rest_replayed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.carry_out(&authorize("a")).unwrap();
        let before = ledger.book.page(0, 9);
        drop(ledger);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [whole.as_slice(), b"{\"entry\":\"captured\",\"key\":\"\xc3"].concat()).unwrap();
        let mut ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.book.page(0, 9), before);
        assert_eq!(fs::read(&path).unwrap(), whole);
        assert!(!ledger.carry_out(&authorize("a")).unwrap().is_new);
        assert!(ledger.carry_out(&authorize("b")).unwrap().is_new);
        drop(ledger);
        assert_eq!(Ledger::open(&path).unwrap().book.page(0, 9).0.len(), 2);
    }

    #[test]
    fn a_damaged_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        fs::write(&path, "{\"entry\":\"voided\",\"key\":\"k\"}\nnonsense\n").unwrap();
        assert!(matches!(Ledger::open(&path), Err(LedgerError::Damaged { line: 2, .. })));
    }

    #[test]
    fn two_providers_cannot_share_a_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let _first = Ledger::open(&path).unwrap();
        assert!(matches!(Ledger::open(&path), Err(LedgerError::InUse { .. })));
    }
}
