//! Work that blocks takes turns: as much of it as there are connections runs at once, on threads that go on with the next one
//! for as long as any waits.
//!
//! Invariant: each work is run or given up, never both; and while one waits, as many run as may. Going on with the next one on
//! the same thread saves the way to the waiting task, from there to another thread and back, which costs as much as a small
//! write.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

type Work = Box<dyn FnOnce() + Send>;

/// Those who wait for their turn.
pub(crate) struct Turns {
    state: Mutex<State>,
    most: u32,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    running: u32,
}

/// Why a work was not run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotRun {
    /// Its turn did not come in time.
    Late,
    /// The process is stopping.
    Stopping,
}

impl Turns {
    /// Turns for so much work at once.
    pub(crate) fn of(most: u32) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), most: most.max(1) })
    }

    /// Runs the work when its turn comes, if that is before the deadline. Once begun it runs to its end, also when the caller
    /// stops waiting.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotRun> {
        let is_taken = Arc::new(AtomicBool::new(false));
        let (done, mut outcome) = oneshot::channel();
        let taken = Arc::clone(&is_taken);
        let start = self.enqueue(Box::new(move || {
            if !taken.swap(true, Ordering::AcqRel) {
                // Nobody may wait any more.
                let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
            }
        }));
        let ended = match start {
            Start::AtOnce => outcome.await,
            Start::InTurn => match tokio::time::timeout_at(deadline.into(), &mut outcome).await {
                Ok(ended) => ended,
                Err(_) if !is_taken.swap(true, Ordering::AcqRel) => return Err(NotRun::Late),
                Err(_) => outcome.await,
            },
        };
        match ended {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(NotRun::Stopping),
        }
    }

    fn enqueue(self: &Arc<Self>, work: Work) -> Start {
        let mut state = self.state();
        state.waiting.push_back(work);
        if state.running >= self.most {
            return Start::InTurn;
        }
        state.running += 1;
        drop(state);
        let runner = Runner { turns: Arc::clone(self), has_ended: false };
        tokio::task::spawn_blocking(move || runner.run());
        Start::AtOnce
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change, so what a poisoned lock guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a work is begun.
enum Start {
    AtOnce,
    InTurn,
}

/// Runs what waits until nothing does.
struct Runner {
    turns: Arc<Turns>,
    has_ended: bool,
}

impl Runner {
    fn run(mut self) {
        while let Some(work) = self.next() {
            work();
        }
    }

    fn next(&mut self) -> Option<Work> {
        let mut state = self.turns.state();
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.running -= 1;
            self.has_ended = true;
        }
        next
    }
}

impl Drop for Runner {
    /// Work that waits now will never run: the runtime is stopping, and has dropped the runner before it began.
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let mut state = self.turns.state();
        state.running -= 1;
        let left = if state.running == 0 { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::runtime::Builder;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[tokio::test]
    async fn each_comes_in_its_turn_and_gets_its_own_outcome() {
        let turns = Turns::of(1);
        let order = Arc::<Mutex<Vec<u32>>>::default();
        let works: Vec<_> = (0..100)
            .map(|number| {
                let (turns, order) = (Arc::clone(&turns), Arc::clone(&order));
                let work = move || {
                    order.lock().unwrap().push(number);
                    number
                };
                tokio::spawn(async move { turns.run(soon(), work).await })
            })
            .collect();
        for (number, work) in (0..100).zip(works) {
            assert_eq!(work.await.unwrap(), Ok(number));
        }
        assert!(order.lock().unwrap().is_sorted());
        assert_eq!(turns.state().running, 0);
    }

    #[tokio::test]
    async fn as_many_run_at_once_as_may() {
        let turns = Turns::of(2);
        let (meet, met) = (Arc::new(std::sync::Barrier::new(2)), soon());
        let works: Vec<_> = (0..4)
            .map(|_| {
                let (turns, meet) = (Arc::clone(&turns), Arc::clone(&meet));
                tokio::spawn(async move { turns.run(met, move || meet.wait().is_leader()).await })
            })
            .collect();
        let mut leaders = 0;
        for work in works {
            leaders += u32::from(work.await.unwrap().unwrap());
        }
        assert_eq!(leaders, 2);
    }

    #[tokio::test]
    async fn who_waits_too_long_is_never_run_and_who_has_begun_is_waited_for() {
        let turns = Turns::of(1);
        let (begun, has_begun) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let first = Arc::clone(&turns);
        let work = move || {
            begun.send(()).unwrap();
            wait.recv().is_ok()
        };
        let deadline = Instant::now() + Duration::from_millis(20);
        let first = tokio::spawn(async move { first.run(deadline, work).await });
        tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();
        let late = turns.run(Instant::now() + Duration::from_millis(1), || panic!("ran too late")).await;
        assert_eq!(late, Err::<(), _>(NotRun::Late));
        go_on.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(true));
        assert_eq!(turns.run(soon(), || 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_is_the_callers_own_and_the_next_one_runs() {
        let turns = Turns::of(1);
        let failing = Arc::clone(&turns);
        let failed = tokio::spawn(async move { failing.run(soon(), || panic!("on purpose")).await });
        assert!(failed.await.unwrap_err().is_panic());
        assert_eq!(turns.run(soon(), || 7).await, Ok(7));
    }

    #[test]
    fn a_runtime_that_stops_leaves_the_turns_to_the_next_one() {
        let turns = Turns::of(1);
        let stopped = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        let (go_on, wait) = mpsc::channel::<()>();
        stopped.block_on(async {
            // Takes the only thread, so that the runner never begins.
            tokio::task::spawn_blocking(move || wait.recv());
            turns.enqueue(Box::new(|| panic!("ran although the runtime had stopped")));
        });
        stopped.shutdown_background();
        drop(go_on);
        let next = Builder::new_current_thread().enable_all().build().unwrap();
        let deadline = soon();
        while turns.state().running > 0 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(next.block_on(turns.run(soon(), || 7)), Ok(7));
    }
}
