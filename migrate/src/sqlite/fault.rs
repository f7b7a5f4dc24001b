//! Says which database failed, where it is, and what to do about it.
//!
//! Invariant: the database's own words come once; its error numbers say nothing to whoever reads the message.

use std::time::Duration;

use rusqlite::{Error, ErrorCode};

use super::{Files, PATIENCE, Pair};
use crate::error::MigrateError;
use crate::flow::End;

/// What the driver says, without the numbers.
pub(crate) fn words(error: &Error) -> String {
    match error {
        Error::SqliteFailure(_, Some(message)) => message.clone(),
        Error::SqlInputError { msg, .. } => msg.clone(),
        Error::SqliteFailure(code, None) => {
            let text = code.to_string();
            text.split_once(": ").map_or_else(|| text.clone(), |(_, words)| words.to_owned())
        }
        other => other.to_string(),
    }
}

impl Files {
    /// Completes an error of which only the two databases are known, not which of them failed.
    pub(crate) fn locate(&self, error: MigrateError) -> MigrateError {
        match error {
            MigrateError::Database(error) => {
                MigrateError::failed(describe(&self.place(None), &error, PATIENCE))
            }
            other => other,
        }
    }

    fn place(&self, end: Option<End>) -> String {
        let one = |end: End| format!("the {}'s database {}", end.side(), self.of(end).display());
        match end {
            Some(end) => one(end),
            None => format!("{} or {}", one(End::Source), one(End::Target)),
        }
    }
}

impl Pair {
    /// Completes an error of the database of one end.
    pub(crate) fn at(&self, end: End) -> impl Fn(Error) -> MigrateError {
        move |error| self.fault(Some(end), &error)
    }

    /// Completes an error that does not say yet which database failed.
    pub(crate) fn locate(&self, error: MigrateError) -> MigrateError {
        match error {
            MigrateError::Database(error) => self.fault(self.failed_end(&error), &error),
            other => other,
        }
    }

    pub(super) fn cannot_open(&self, end: End, error: &Error) -> MigrateError {
        let of_disk = [ErrorCode::DiskFull, ErrorCode::SystemIoFailure];
        if is_locked(error) || error.sqlite_error_code().is_some_and(|code| of_disk.contains(&code)) {
            let message = describe(&self.files.place(Some(end)), error, self.patience.get());
            return MigrateError::Unreachable { message, source: None };
        }
        let (file, side) = (self.files.of(end).display(), end.side());
        MigrateError::Unreachable {
            message: format!(
                "cannot open the {end} database {file}: {}; check that it is the {side}'s, and make file and folder \
                 writable for this user",
                words(error)
            ),
            source: None,
        }
    }

    fn fault(&self, end: Option<End>, error: &Error) -> MigrateError {
        MigrateError::failed(describe(&self.files.place(end), error, self.patience.get()))
    }

    /// What only a writer meets is the written end's; else it is the one whose schema cannot be read, if one cannot.
    fn failed_end(&self, error: &Error) -> Option<End> {
        let of_writer = is_locked(error)
            || matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::ReadOnly));
        if of_writer && self.writable.is_some() {
            return self.writable;
        }
        let fails = |end: &End| {
            let sql = format!("SELECT count(*) FROM {}.sqlite_schema", end.schema());
            self.conn.query_row(&sql, [], |row| row.get::<_, i64>(0)).is_err()
        };
        match (fails(&End::Source), fails(&End::Target)) {
            (true, false) => Some(End::Source),
            (false, true) => Some(End::Target),
            _ => None,
        }
    }
}

fn is_locked(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn describe(place: &str, error: &Error, patience: Duration) -> String {
    let said = words(error);
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            format!(
                "{place}: the disk is full; free space and run the command again, it goes on where it stopped"
            )
        }
        Some(ErrorCode::ReadOnly) => {
            format!("{place} cannot be written: {said}; make file and folder writable for this user")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            let limit = match patience.as_millis() {
                millis if millis % 1000 == 0 => format!("{} s", millis / 1000),
                millis => format!("{millis} ms"),
            };
            format!(
                "{place} is locked by another process for longer than {limit}; end what holds it, a backup or an open \
                 transaction, and run the command again"
            )
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            format!("{place} is damaged: {said}; look at it with `PRAGMA integrity_check`")
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            format!("{place} cannot be used: {said}; look at its disk, and at the rights to file and folder")
        }
        _ => format!("{place} failed: {said}"),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::*;

    fn files() -> (TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let database = |name: &str| {
            let path = folder.path().join(name);
            let conn = Connection::open(&path).unwrap();
            conn.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (a)").unwrap();
            path
        };
        let files = Files { source: database("monolith.db"), target: database("service.db") };
        (folder, files)
    }

    /// What a write to the service's database ends with after `before`, and that database's path.
    fn write_after(before: &str) -> (String, String) {
        let (_folder, files) = files();
        let pair = Pair::writing(&files, End::Target).unwrap();
        pair.conn.execute_batch(before).unwrap();
        let error = pair
            .write(|pair| Ok(pair.conn.execute("INSERT INTO target.t VALUES (zeroblob(1000000))", [])?))
            .unwrap_err();
        assert_eq!(error.exit_code(), 1);
        (platform::error::chain(&error), files.target.display().to_string())
    }

    #[test]
    fn a_full_disk_is_told_with_database_and_remedy() {
        let (error, path) = write_after("PRAGMA target.max_page_count = 2");
        assert_eq!(
            error,
            format!(
                "the service's database {path}: the disk is full; free space and run the command again, it goes on \
                 where it stopped"
            )
        );
    }

    #[test]
    fn a_database_that_cannot_be_written_is_told_with_its_remedy() {
        let (error, path) = write_after("PRAGMA query_only = on");
        assert_eq!(
            error,
            format!(
                "the service's database {path} cannot be written: attempt to write a readonly database; make file and \
                 folder writable for this user"
            )
        );
    }

    #[test]
    fn a_lock_is_told_with_the_time_it_was_waited_for() {
        let (_folder, files) = files();
        let other = Connection::open(&files.source).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let pair = Pair::writing(&files, End::Source).unwrap();
        pair.wait_for_locks(Duration::from_millis(10)).unwrap();
        let error = platform::error::chain(&pair.write(|_| Ok(())).unwrap_err());
        let expected = format!(
            "the monolith's database {} is locked by another process for longer than 10 ms; ",
            files.source.display()
        );
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn another_failure_names_both_databases_and_its_cause_once() {
        let (_folder, files) = files();
        let pair = Pair::read_only(&files).unwrap();
        let error = pair.snapshot(|pair| Ok(pair.conn.execute_batch("SELECT json('{')")?)).unwrap_err();
        let expected = format!(
            "the monolith's database {} or the service's database {} failed: malformed JSON",
            files.source.display(),
            files.target.display()
        );
        assert_eq!(platform::error::chain(&error), expected);
    }

    #[test]
    fn a_file_that_is_no_database_is_told_with_its_path() {
        let (_folder, files) = files();
        std::fs::write(&files.target, "not a database, but long enough to be looked at".repeat(40)).unwrap();
        let error = Pair::read_only(&files).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        let text = platform::error::chain(&error);
        assert!(text.contains(&files.target.display().to_string()), "{text}");
        assert!(text.contains(": file is not a database; ") && !text.contains("Error code"), "{text}");
    }
}
