//! What went wrong in which file, and what to do about it.
//!
//! Invariant: whatever may pass by itself (a lock, a full disk, a file system that went away) is `Unreachable`, so that the engine
//! tries again.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::error::MigrateError;
use crate::sqlite::words;

/// Says of a bare database error where it happened.
pub(super) fn locate(error: MigrateError, end: &str, file: &Path) -> MigrateError {
    let MigrateError::Database(cause) = error else { return error };
    let (file, said) = (file.display(), words(&cause));
    match cause.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => MigrateError::Unreachable {
            message: format!(
                "another writer kept the {end} database {file} locked; look for a transaction left open"
            ),
            source: Some(Box::new(cause)),
        },
        Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure | ErrorCode::FileLockingProtocolFailed) => {
            MigrateError::Unreachable {
                message: format!(
                    "cannot reach the {end} database {file}: {said}; check the path and its disk"
                ),
                source: Some(Box::new(cause)),
            }
        }
        Some(ErrorCode::DiskFull) => MigrateError::Unreachable {
            message: format!("no space for the {end} database {file}; free some on its disk"),
            source: Some(Box::new(cause)),
        },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => MigrateError::refused(
            format!("the {end} database {file} cannot be written: {said}"),
            format!("run `chmod u+rw {file}*` as its owner, and see that its folder can be written"),
        ),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => failed(
            format!(
                "the {end} database {file} is damaged: {said}; run `sqlite3 {file} 'PRAGMA integrity_check'`"
            ),
            cause,
        ),
        _ => failed(format!("the {end} database {file} failed: {said}"), cause),
    }
}

fn failed(message: String, cause: rusqlite::Error) -> MigrateError {
    MigrateError::Failed { message, source: Some(Box::new(cause)) }
}

/// Whether a row's values were refused, as opposed to a database that failed.
pub(super) fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

/// Whether a unique value was already there.
pub(super) fn is_unique(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE};
    let unique = [SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE];
    error.sqlite_error().is_some_and(|error| unique.contains(&error.extended_code))
}
