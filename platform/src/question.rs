//! Questions to what may not answer: a database that hangs, a disk that is gone.
//!
//! Invariant: a question is asked by at most one thread at a time, so a dependency that hangs costs one thread, and
//! whoever asks is answered or given up within the timeout.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// A closure that may block, asked off the event loop.
pub(crate) struct Question<T> {
    ask: Arc<dyn Fn() -> T + Send + Sync>,
    timeout: Duration,
    one_at_a_time: Arc<Semaphore>,
}

impl<T> Clone for Question<T> {
    fn clone(&self) -> Self {
        let Self { ask, timeout, one_at_a_time } = self;
        Self { ask: Arc::clone(ask), timeout: *timeout, one_at_a_time: Arc::clone(one_at_a_time) }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("the check itself failed")]
    Failed,
}

impl<T: Send + 'static> Question<T> {
    pub(crate) fn new(timeout: Duration, ask: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self { ask: Arc::new(ask), timeout, one_at_a_time: Arc::new(Semaphore::new(1)) }
    }

    /// The answer. While an earlier asking has not ended, this one waits for it, within its own timeout.
    pub(crate) async fn answer(&self) -> Result<T, NoAnswer> {
        let asked = async {
            let turn = Arc::clone(&self.one_at_a_time).acquire_owned().await.map_err(|_| NoAnswer::Failed)?;
            let ask = Arc::clone(&self.ask);
            let answer = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                ask()
            });
            answer.await.map_err(|_| NoAnswer::Failed)
        };
        tokio::time::timeout(self.timeout, asked).await.unwrap_or(Err(NoAnswer::Late(self.timeout)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, mpsc};

    use super::*;

    #[actix_web::test]
    async fn a_question_that_hangs_is_asked_by_one_thread_only() {
        let (open, closed) = mpsc::channel::<()>();
        let closed = Mutex::new(closed);
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let question = Question::new(Duration::from_millis(20), move || {
            counter.fetch_add(1, Ordering::SeqCst);
            closed.lock().unwrap().recv()
        });
        for _ in 0..5 {
            assert!(matches!(question.answer().await, Err(NoAnswer::Late(_))));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        drop(open);
        let patient = Question { timeout: Duration::from_secs(10), ..question };
        assert!(patient.answer().await.is_ok());
    }
}
