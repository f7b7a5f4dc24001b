//! Positions: what a snapshot saw, and of which server.
//!
//! Invariant: two positions are compared only if system identifier, timeline and database are the same; after a failover or a
//! restore the numbers of transactions may mean others.

use super::connection::Connection;
use crate::engine::Position;
use crate::error::MigrateError;

/// The open snapshot, in a transaction that has one.
pub(super) fn current(conn: &mut Connection) -> Result<Seen, MigrateError> {
    let row = conn.one(
        "SELECT format('%s/%s/%s %s', (SELECT system_identifier FROM pg_control_system()), \
         left(pg_walfile_name(pg_current_wal_lsn()), 8), \
         (SELECT oid FROM pg_database WHERE datname = current_database()), pg_current_snapshot())",
        &[],
    )?;
    Seen::parse(&Position(row.get(0)))
}

/// A position, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    server: String,
    snapshot: String,
    /// All below were over.
    xmin: u64,
    /// None from here on had begun.
    xmax: u64,
    /// Between the two: those under way.
    under_way: Vec<u64>,
}

impl Seen {
    pub(super) fn parse(position: &Position) -> Result<Self, MigrateError> {
        Self::read(&position.0)
            .ok_or_else(|| MigrateError::failed(format!("`{}` is no position of PostgreSQL", position.0)))
    }

    fn read(text: &str) -> Option<Self> {
        let (server, snapshot) = text.split_once(' ')?;
        let mut parts = snapshot.split(':');
        let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let listed = parts.next()?.split(',').filter(|xid| !xid.is_empty());
        let under_way = listed.map(|xid| xid.parse().ok()).collect::<Option<_>>()?;
        Some(Self { server: server.to_owned(), snapshot: snapshot.to_owned(), xmin, xmax, under_way })
    }

    pub(super) fn position(&self) -> Position {
        Position(format!("{} {}", self.server, self.snapshot))
    }

    /// Whether it saw everything that `earlier` saw.
    pub(super) fn covers(&self, earlier: &Self) -> Result<bool, MigrateError> {
        self.same_server(earlier)?;
        // What began here only later was seen by the other, unless it was under way there.
        let later = earlier.under_way.iter().filter(|xid| **xid >= self.xmax).count();
        let none_later = u64::try_from(later).unwrap_or(u64::MAX) >= earlier.xmax.saturating_sub(self.xmax);
        Ok(none_later && self.under_way.iter().all(|xid| !earlier.saw(*xid)))
    }

    fn saw(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && !self.under_way.contains(&xid))
    }

    pub(super) fn same_server(&self, other: &Self) -> Result<(), MigrateError> {
        if self.server == other.server {
            return Ok(());
        }
        Err(MigrateError::refused(
            format!(
                "the source is another server than before, or was restored or failed over (system/timeline/database {} and {})",
                other.server, self.server
            ),
            "positions mean nothing there: forget the stream with `migrate capture remove --forget`, empty the target, and begin a \
             new backfill",
        ))
    }

    /// The condition on a log row's `xid` that this position did not see it.
    pub(super) fn unseen(&self) -> String {
        // The first part lets the index on xid skip all that is old.
        format!(
            "(xid >= '{}'::xid8 AND NOT pg_visible_in_snapshot(xid, '{}'::pg_snapshot))",
            self.xmin, self.snapshot
        )
    }

    /// The condition on a log row's `xid` that this position saw it.
    pub(super) fn seen(&self) -> String {
        format!(
            "(xid < '{}'::xid8 AND pg_visible_in_snapshot(xid, '{}'::pg_snapshot))",
            self.xmax, self.snapshot
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(snapshot: &str) -> Seen {
        Seen::parse(&Position(format!("7/1/5 {snapshot}"))).unwrap()
    }

    #[test]
    fn a_position_covers_what_it_saw_too() {
        let covers = |later, earlier| seen(later).covers(&seen(earlier)).unwrap();
        assert!(covers("10:10:", "10:10:") && covers("12:12:", "10:11:10") && covers("10:12:10", "10:11:10"));
        assert!(!covers("10:12:10", "11:11:"), "10 is under way later and was over earlier");
        assert!(!covers("10:10:", "11:11:") && covers("10:10:", "10:12:10,11"));
        assert!(!covers("10:10:", "10:12:10"));
    }

    #[test]
    fn a_position_of_another_server_is_refused() {
        let other = Seen::parse(&Position("8/1/5 10:10:".to_owned())).unwrap();
        assert_eq!(seen("10:10:").covers(&other).unwrap_err().exit_code(), 3);
        assert!(Seen::parse(&Position("17".to_owned())).is_err());
    }
}
