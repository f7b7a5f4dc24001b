//! Idempotency keys, on both databases.

use std::sync::mpsc;
use std::thread;

use contracts::{Clock, SystemClock};

use super::*;
use crate::testing::{Scratch, scratch};
use crate::{Backend, on_both};

on_both!(fixture => [
    a_repeat_gets_the_first_result_and_does_nothing,
    a_key_used_for_another_command_is_refused,
    a_key_used_in_another_scope_is_refused,
    a_command_that_failed_may_be_sent_again,
    without_a_key_every_command_is_carried_out,
    a_second_request_waits_for_the_first_and_gets_its_result,
    only_old_keys_are_purged,
]);

const SCOPE: &str = "nests.build";

fn fixture(backend: Backend) -> Scratch {
    scratch(backend, &[SCHEMA])
}

#[derive(Debug, thiserror::Error)]
enum NestError {
    #[error(transparent)]
    Reused(#[from] KeyReused),
    #[error(transparent)]
    Database(#[from] DbError),
    #[error("the branch broke")]
    BranchBroke,
}

impl From<diesel::result::Error> for NestError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}

fn key(text: &str, fingerprint: &str) -> IdempotencyKey {
    IdempotencyKey::parse(text, fingerprint).unwrap()
}

async fn build(
    db: &Db,
    scope: &'static str,
    key: Option<IdempotencyKey>,
    nest: u32,
) -> Result<u32, NestError> {
    db.write(move |conn| once(conn, scope, key.as_ref(), SystemClock.now(), |_| Ok(nest))).await
}

async fn a_repeat_gets_the_first_result_and_does_nothing(db: Scratch) {
    assert_eq!(build(&db, SCOPE, Some(key("k", "f")), 1).await.unwrap(), 1);
    assert_eq!(build(&db, SCOPE, Some(key("k", "f")), 2).await.unwrap(), 1);
    let replayed = db.read(|conn| replay::<u32, NestError>(conn, SCOPE, Some(&key("k", "f")))).await;
    assert_eq!(replayed.unwrap(), Some(1));
    let unknown = db.read(|conn| replay::<u32, NestError>(conn, SCOPE, Some(&key("other", "f")))).await;
    assert_eq!(unknown.unwrap(), None);
}

async fn a_key_used_for_another_command_is_refused(db: Scratch) {
    build(&db, SCOPE, Some(key("k", "f")), 1).await.unwrap();
    let refused = build(&db, SCOPE, Some(key("k", "g")), 2).await;
    assert!(matches!(refused, Err(NestError::Reused(KeyReused { key })) if key == "k"));
}

async fn a_key_used_in_another_scope_is_refused(db: Scratch) {
    build(&db, SCOPE, Some(key("k", "f")), 1).await.unwrap();
    let refused = build(&db, "nests.leave", Some(key("k", "f")), 2).await;
    assert!(matches!(refused, Err(NestError::Reused(KeyReused { key })) if key == "k"));
}

async fn a_command_that_failed_may_be_sent_again(db: Scratch) {
    let failed = db.write(|conn| {
        once(conn, SCOPE, Some(&key("k", "f")), SystemClock.now(), |_| Err::<u32, _>(NestError::BranchBroke))
    });
    assert!(matches!(failed.await, Err(NestError::BranchBroke)));
    assert_eq!(build(&db, SCOPE, Some(key("k", "f")), 3).await.unwrap(), 3);
}

async fn without_a_key_every_command_is_carried_out(db: Scratch) {
    assert_eq!(build(&db, SCOPE, None, 1).await.unwrap(), 1);
    assert_eq!(build(&db, SCOPE, None, 2).await.unwrap(), 2);
}

async fn a_second_request_waits_for_the_first_and_gets_its_result(db: Scratch) {
    let (first_db, second_db) = (db.clone(), db.clone());
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let first = thread::spawn(move || {
        first_db.write_blocking(|conn| {
            once(conn, SCOPE, Some(&key("k", "f")), SystemClock.now(), |_| {
                begun.send(()).unwrap();
                may_go_on.recv().unwrap();
                Ok::<_, NestError>(1)
            })
        })
    });
    has_begun.recv().unwrap();
    let (asked, has_asked) = mpsc::channel();
    let second = thread::spawn(move || {
        asked.send(()).unwrap();
        second_db.write_blocking(|conn| {
            once(conn, SCOPE, Some(&key("k", "f")), SystemClock.now(), |_| Ok::<_, NestError>(2))
        })
    });
    has_asked.recv().unwrap();
    go_on.send(()).unwrap();
    assert_eq!(first.join().unwrap().unwrap(), 1);
    assert_eq!(second.join().unwrap().unwrap(), 1);
}

async fn only_old_keys_are_purged(db: Scratch) {
    for (name, at) in [("old", 1000), ("young", 2000)] {
        let kept = db.write(move |conn| {
            once(conn, SCOPE, Some(&key(name, "f")), Timestamp::from_millis(at), |_| Ok::<_, NestError>(at))
        });
        kept.await.unwrap();
    }
    assert_eq!(purge(&db, Timestamp::from_millis(2000)).await.unwrap(), 1);
    assert_eq!(build(&db, SCOPE, Some(key("old", "g")), 3).await.unwrap(), 3);
    assert!(build(&db, SCOPE, Some(key("young", "g")), 4).await.is_err());
}
