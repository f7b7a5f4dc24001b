//! Positions: the snapshot that a transaction of the source had, and the server that it was taken on.
//!
//! Invariant: two positions are compared only if they are of one life of one database; transaction numbers of another server,
//! or of a standby that was promoted, mean something else.

use crate::engine::Position;
use crate::error::MigrateError;

/// The identity of a database, as SQL: the cluster, its timeline, the database. The timeline is read off the log being
/// written, as the control file learns of a promotion only at the next checkpoint.
pub(super) const IDENTITY: &str = "(SELECT system_identifier FROM pg_control_system()) || ':' || \
    substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || ':' || \
    (SELECT oid FROM pg_database WHERE datname = current_database())";

/// A position in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// What [`IDENTITY`] gives.
    pub(super) identity: String,
    /// As PostgreSQL writes it: `xmin:xmax:xip,xip`.
    pub(super) snapshot: String,
    /// Everything below it had ended.
    pub(super) xmin: u64,
    /// Nothing from it on had begun.
    pub(super) xmax: u64,
    running: Vec<u64>,
}

impl Seen {
    /// Takes a position apart.
    pub(super) fn parse(position: &Position) -> Result<Self, MigrateError> {
        Self::read(&position.0).ok_or_else(|| {
            MigrateError::refused(
                format!("`{}` is no position of PostgreSQL", position.0),
                "this stream was begun with another kind of database: start it anew with a backfill",
            )
        })
    }

    fn read(text: &str) -> Option<Self> {
        let (identity, snapshot) = text.split_once(' ')?;
        let mut parts = snapshot.split(':');
        let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let running = parts.next()?.split(',').filter(|xid| !xid.is_empty());
        let running = running.map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { identity: identity.to_owned(), snapshot: snapshot.to_owned(), xmin, xmax, running })
    }

    fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && !self.running.contains(&xid))
    }

    /// Refuses to compare with a position of another server.
    pub(super) fn same_server(&self, identity: &str) -> Result<(), MigrateError> {
        if self.identity == identity {
            return Ok(());
        }
        Err(MigrateError::refused(
            format!(
                "the source is not the server that the stream was begun on: it was {} and is {identity} \
                 (cluster:timeline:database); it was restored, promoted or replaced, and may have lost what was copied",
                self.identity
            ),
            "start the stream anew with a backfill",
        ))
    }

    /// Whether everything that `earlier` saw is seen here.
    pub(super) fn covers(&self, earlier: &Self) -> Result<bool, MigrateError> {
        earlier.same_server(&self.identity)?;
        if self.running.iter().any(|xid| earlier.sees(*xid)) {
            return Ok(false);
        }
        let beyond = earlier.xmax.saturating_sub(self.xmax);
        let unseen = earlier.running.iter().filter(|xid| **xid >= self.xmax).count();
        Ok(u64::try_from(unseen).is_ok_and(|unseen| unseen >= beyond))
    }

    /// SQL that is true for transactions not seen.
    pub(super) fn not_seen(&self, xid: &str) -> String {
        let Self { xmin, snapshot, .. } = self;
        format!("({xid} >= '{xmin}'::xid8 AND NOT pg_visible_in_snapshot({xid}, '{snapshot}'::pg_snapshot))")
    }

    /// SQL that is true for transactions seen.
    pub(super) fn seen(&self, xid: &str) -> String {
        let Self { xmax, snapshot, .. } = self;
        format!("({xid} < '{xmax}'::xid8 AND pg_visible_in_snapshot({xid}, '{snapshot}'::pg_snapshot))")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(snapshot: &str) -> Seen {
        Seen::read(&format!("1:00000001:5 {snapshot}")).unwrap()
    }

    #[test]
    fn a_snapshot_covers_one_whose_every_visible_transaction_it_sees() {
        assert!(seen("10:12:10").covers(&seen("10:12:10")).unwrap());
        assert!(seen("12:12:").covers(&seen("10:12:10")).unwrap());
        assert!(!seen("10:12:10").covers(&seen("11:12:")).unwrap());
        assert!(!seen("10:12:10").covers(&seen("10:13:10")).unwrap());
        // What began and still ran at the earlier one need not be known to the later one.
        assert!(seen("10:12:10").covers(&seen("10:13:10,12")).unwrap());
    }

    #[test]
    fn positions_of_two_servers_are_not_compared() {
        let other = Seen::read("1:00000002:5 10:12:").unwrap();
        assert_eq!(other.covers(&seen("10:12:")).unwrap_err().exit_code(), 3);
    }
}
