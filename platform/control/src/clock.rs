//! The clock of the store: the machine's for a file, the server's for PostgreSQL, where many machines look at one store.
//!
//! Invariant: within a transaction, times are compared by the store's clock alone. What is handed out for comparison
//! with [`now_ms`] is by the machine's clock, as exact as [`TOLERANCE_MS`] says.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::conn::Conn;
use crate::error::ControlError;

/// How far the two clocks may differ without being told apart, so that times handed out twice are the same.
const TOLERANCE_MS: i64 = 50;

/// Milliseconds since 1970 by the machine's clock, by which holds are handed out, whichever clock the store has.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time by the store's clock.
pub(crate) fn store_now_ms(conn: &mut Conn) -> Result<i64, ControlError> {
    match conn {
        Conn::Sqlite(_) => Ok(now_ms()),
        Conn::Postgres(conn) => {
            let question = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms";
            Ok(diesel::sql_query(question).get_result::<Clock>(conn)?.ms)
        }
    }
}

/// How far a server's clock is ahead of the machine's.
#[derive(Debug, Default)]
pub(crate) struct Ahead(AtomicI64);

impl Ahead {
    /// Takes over what the server's clock shows now.
    pub(crate) fn learn(&self, server_now_ms: i64) {
        let ahead = server_now_ms - now_ms();
        if (ahead - self.0.load(Ordering::Relaxed)).abs() > TOLERANCE_MS {
            self.0.store(ahead, Ordering::Relaxed);
        }
    }

    pub(crate) fn ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(QueryableByName)]
struct Clock {
    #[diesel(sql_type = BigInt)]
    ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_difference_of_the_clocks_is_none() {
        let ahead = Ahead::default();
        ahead.learn(now_ms() + 20);
        assert_eq!(ahead.ms(), 0);
        ahead.learn(now_ms() - 90_000);
        assert!((ahead.ms() + 90_000).abs() < 1_000);
        let learned = ahead.ms();
        ahead.learn(now_ms() + learned);
        assert_eq!(ahead.ms(), learned);
    }
}
