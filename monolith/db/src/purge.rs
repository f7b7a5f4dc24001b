//! Deleting what is no longer needed, a little at a time.
//!
//! Invariant: no transaction of a purge is long enough to make others wait for it.

use diesel::QueryResult;

use crate::{Conn, Db, DbError};

/// Rows deleted by one transaction.
pub(crate) const BATCH: i64 = 500;

/// Repeats `delete`, which takes at most [`BATCH`] rows, until it finds less; returns how many rows went.
pub(crate) async fn in_batches(
    db: &Db,
    delete: impl Fn(&mut Conn) -> QueryResult<usize> + Clone + Send + 'static,
) -> Result<u64, DbError> {
    let mut purged = 0;
    loop {
        let delete = delete.clone();
        let gone = db.write(move |conn| Ok::<_, DbError>(delete(conn)?)).await?;
        let gone = i64::try_from(gone).unwrap_or(i64::MAX);
        purged += gone.unsigned_abs();
        if gone < BATCH {
            return Ok(purged);
        }
    }
}
