//! Several questions of one use case in one stay off the async runtime.
//!
//! Invariant: what runs together takes its connections from the same pool and keeps the same promises as what runs alone; it
//! only saves the way to another thread and back for each question.

use std::cell::RefCell;
use std::future::Future;

use tokio::runtime::Handle;

use crate::transaction::Ending;

thread_local! {
    /// How the use case ends that this thread runs, with the database that it may ask without leaving the thread.
    static RUNNING: RefCell<Option<(usize, Ending)>> = const { RefCell::new(None) };
}

/// The ending that a question to this database shares, if it is asked by a use case that runs on this thread.
pub(crate) fn running(database: usize) -> Option<Ending> {
    RUNNING.with_borrow(|running| {
        running.as_ref().filter(|(known, _)| *known == database).map(|(_, ending)| ending.clone())
    })
}

/// Runs the use case on this thread, which may block.
pub(crate) fn run<T>(database: usize, ending: Ending, work: impl Future<Output = T>) -> T {
    let _end = End;
    RUNNING.set(Some((database, ending)));
    Handle::current().block_on(work)
}

/// Leaves the thread as it was, also when the use case panics.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        RUNNING.set(None);
    }
}
