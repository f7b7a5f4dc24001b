//! The import of the *Online Retail* file into users, catalog and orders.
//!
//! Invariants: every line of the file ends up in an order or in the rejects file, and the summary's counts add up to
//! the file's lines; importing the same file twice changes nothing; memory does not grow with the file.
//!
//! One thread reads and parses, the caller's task writes; between them wait at most a few batches.

mod assemble;
mod date;
mod line;
mod read;
mod reject;
mod seen;
mod store;
mod summary;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use contracts::catalog::Catalog;
use contracts::inventory::Inventory;
use contracts::orders::Orders;
use contracts::users::Users;
use tokio::sync::mpsc;

use assemble::{Assembler, Batch};
use reject::RejectsFile;
use store::Writer;

pub use read::{HEADER, Input, Source};
pub use reject::Reason;
pub use store::StoreError;
pub use summary::Summary;

/// Batches that may wait between the two halves; more would only cost memory.
const WAITING: usize = 3;
/// Line numbers are those of the file, as an editor shows them.
const HEADER_LINES: u64 = 1;

/// Where an import puts what it reads.
#[derive(Clone)]
pub struct Ports {
    /// Customers become users.
    pub users: Arc<dyn Users>,
    /// Stock codes become products.
    pub catalog: Arc<dyn Catalog>,
    /// New products get their opening stock.
    pub inventory: Arc<dyn Inventory>,
    /// Invoices become orders.
    pub orders: Arc<dyn Orders>,
}

/// Why an import did not begin, or did not end.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The input cannot be opened.
    #[error("cannot open {path}: {reason}; name a CSV file, plain or gzipped, or - for standard input")]
    CannotOpen {
        /// The path.
        path: String,
        /// Why.
        reason: String,
    },
    /// The input is another kind of file.
    #[error(
        "{path} is not an Online Retail file: its first line is `{found}`, not `{HEADER}`; nothing was imported"
    )]
    OtherHeader {
        /// The path.
        path: String,
        /// Its first line, shortened.
        found: String,
    },
    /// The input broke off.
    #[error(
        "cannot read {path} after line {line}; what stands before is imported, so mend the file and run it again"
    )]
    Unreadable {
        /// The path.
        path: String,
        /// The last line that was read.
        line: u64,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The rejects file cannot be written.
    #[error("cannot write the rejects file {path}; name another one with --rejects")]
    Rejects {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The rejects file is the input.
    #[error("the rejects file would overwrite the input {path}; name another one with --rejects")]
    RejectsOverInput {
        /// The path.
        path: String,
    },
    /// A line was lost or counted twice: a fault of this program.
    #[error(
        "the books do not balance: {lines} lines were read and {booked} accounted for; please report this"
    )]
    Books {
        /// Lines read.
        lines: u64,
        /// Lines imported, unchanged and rejected.
        booked: u64,
    },
    /// A context did not take a batch.
    #[error("the import stopped before line {line}; run it again to go on, what is imported stays as it is")]
    Store {
        /// First line of the batch.
        line: u64,
        /// Why.
        #[source]
        source: StoreError,
    },
}

/// What a person sees of an import while it runs.
pub trait Progress {
    /// So many bytes of the input and so many lines are done.
    fn advance(&self, bytes: u64, lines: u64);
}

/// Imports `source`, whose header has been checked, and writes what it cannot take to `rejects`. Products that have no stock
/// get `opening_stock` units.
pub async fn import(
    source: Source,
    ports: Ports,
    opening_stock: u32,
    rejects: &Path,
    progress: &dyn Progress,
) -> Result<Summary, ImportError> {
    let path = source.path().to_owned();
    let read = source.bytes_read();
    let mut rejects = RejectsFile::create(rejects, &path)?;
    let (sender, mut batches) = mpsc::channel(WAITING);
    let reader = thread::spawn(move || assemble(source, &sender));
    let mut writer = Writer::new(ports, opening_stock);
    let mut summary = Summary::new(path.clone(), rejects.path());
    while let Some(batch) = batches.recv().await {
        let line = batch.first_line();
        let stored = writer.store(batch).await.map_err(|source| ImportError::Store { line, source })?;
        rejects.add(&stored.rejects)?;
        summary.add(&stored);
        progress.advance(read.now(), summary.booked());
    }
    rejects.finish()?;
    match reader.join() {
        Ok(Ok(lines)) => summary.balance(lines),
        Ok(Err((line, source))) => Err(ImportError::Unreadable { path, line, source }),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The reading half; returns how many lines there were. It ends early when the writing half has gone.
fn assemble(mut source: Source, sender: &mpsc::Sender<Batch>) -> Result<u64, (u64, std::io::Error)> {
    let mut assembler = Assembler::default();
    let mut number = 0;
    while let Some(line) = source.next_line().map_err(|error| (number + HEADER_LINES, error))? {
        number += 1;
        let batch = assembler.push(number + HEADER_LINES, line);
        if let Some(batch) = batch
            && sender.blocking_send(batch).is_err()
        {
            return Ok(number);
        }
    }
    if let Some(batch) = assembler.finish() {
        // Nobody waits for it only if the writing half has failed, which reports that itself.
        let _ = sender.blocking_send(batch);
    }
    Ok(number)
}

/// Where rejected lines go unless told otherwise.
pub fn default_rejects(input: &Input) -> PathBuf {
    match input {
        Input::Stdin => PathBuf::from("online-retail.rejects.csv"),
        Input::File(path) => {
            let mut name = path.clone().into_os_string();
            name.push(".rejects.csv");
            PathBuf::from(name)
        }
    }
}

#[cfg(test)]
mod tests;
