//! Says, after a commit, that there is new work for the relay or for the saga runner of this process.
//!
//! Invariant: nobody is woken for work that was rolled back. A process that wakes nobody only waits for the next look.

use std::cell::Cell;

use tokio::sync::watch;

/// Who has something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Events,
    Sagas,
}

thread_local! {
    /// A transaction runs on one thread from its begin to its end.
    static ASKED: Cell<[bool; 2]> = const { Cell::new([false; 2]) };
}

/// A transaction begins: what the last one of this thread asked for is void.
pub(crate) fn begin() {
    ASKED.take();
}

/// Wakes after the commit of this thread's transaction.
pub(crate) fn after_commit(work: Work) {
    let [events, sagas] = ASKED.get();
    ASKED.set(match work {
        Work::Events => [true, sagas],
        Work::Sagas => [events, true],
    });
}

/// Those who sleep beside one database. One that is awake learns of it before it sleeps the next time.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    events: watch::Sender<()>,
    sagas: watch::Sender<()>,
}

impl Wakes {
    pub(crate) fn subscribe(&self, work: Work) -> watch::Receiver<()> {
        match work {
            Work::Events => self.events.subscribe(),
            Work::Sagas => self.sagas.subscribe(),
        }
    }

    /// The transaction of this thread is committed.
    pub(crate) fn committed(&self) {
        let [events, sagas] = ASKED.take();
        if events {
            self.events.send_replace(());
        }
        if sagas {
            self.sagas.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_commit_wakes_and_only_those_with_work() {
        let wakes = Wakes::default();
        let (events, sagas) = (wakes.subscribe(Work::Events), wakes.subscribe(Work::Sagas));
        begin();
        after_commit(Work::Sagas);
        begin();
        after_commit(Work::Events);
        wakes.committed();
        assert_eq!((events.has_changed().unwrap(), sagas.has_changed().unwrap()), (true, false));
    }
}
