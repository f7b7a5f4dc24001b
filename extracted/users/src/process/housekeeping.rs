//! What the service sweeps up while it serves.
//!
//! Invariant: nothing waits for it, and what fails is tried again at the next round.

use std::time::Duration;

use contracts::{Clock, SystemClock, Timestamp};
use db::{Db, DbError, idempotency};
use platform::error::chain;
use tokio::task::JoinHandle;

/// Pause between two rounds; short against the hours for which keys are kept.
const ROUND: Duration = Duration::from_secs(60);

/// A running sweep; dropping it stops that.
pub(super) struct Housekeeping(JoinHandle<()>);

impl Drop for Housekeeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Housekeeping {
    /// Starts on the present runtime. Idempotency keys go once they are as old as `kept`.
    pub(super) fn spawn(db: Db, kept: Duration) -> Self {
        Self(tokio::spawn(async move {
            loop {
                match sweep(&db, kept, SystemClock.now()).await {
                    Ok(gone) => tracing::debug!(gone, "{gone} old idempotency keys are gone"),
                    Err(error) => tracing::warn!("old idempotency keys stay for now: {}", chain(&error)),
                }
                tokio::time::sleep(ROUND).await;
            }
        }))
    }
}

async fn sweep(db: &Db, kept: Duration, now: Timestamp) -> Result<u64, DbError> {
    let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
    idempotency::purge(db, Timestamp::from_millis(now.as_millis().saturating_sub(kept))).await
}

#[cfg(test)]
mod tests {
    use contracts::{IdempotencyKey, KeyReused};
    use db::Backend;
    use db::testing::{Scratch, scratch};
    use diesel::result::Error;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Refusal {
        #[error(transparent)]
        Key(#[from] KeyReused),
        #[error(transparent)]
        Database(#[from] DbError),
        #[error(transparent)]
        Statement(#[from] Error),
    }

    fn database(backend: Backend) -> Scratch {
        scratch(backend, &[idempotency::SCHEMA])
    }

    db::on_both!(database => [a_key_goes_once_it_is_old_enough]);

    async fn a_key_goes_once_it_is_old_enough(db: Scratch) {
        let key = IdempotencyKey::parse("k", "f").unwrap();
        let keep = move |conn: &mut db::Conn| {
            idempotency::once(conn, "test", Some(&key), Timestamp::from_millis(1_000), |_| {
                Ok::<_, Refusal>(7)
            })
        };
        db.write(keep).await.unwrap();
        let hour = Duration::from_secs(3600);
        assert_eq!(sweep(&db, hour, Timestamp::from_millis(1_000)).await.unwrap(), 0);
        assert_eq!(sweep(&db, hour, Timestamp::from_millis(3_601_001)).await.unwrap(), 1);
    }
}
