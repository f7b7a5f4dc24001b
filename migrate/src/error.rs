//! Why a command did not do what it was asked, sorted by what the caller can do about it.
//!
//! Invariant: the four kinds are the four exit codes other than 0, so a script can tell them apart.

use control::ControlError;

use crate::manifest::ManifestError;
use crate::sqlite::words;

/// Why a command did not do it.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// It was tried and something failed, or the data differs. Exit code 1.
    #[error("{message}")]
    Failed {
        /// What failed.
        message: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The command, the settings or the manifest make no sense. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// It would be wrong to do it now. Exit code 3.
    #[error("refused: {reason}; {remedy}")]
    Refused {
        /// What stands in the way.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// A database or a server cannot be reached. Exit code 4.
    #[error("{message}")]
    Unreachable {
        /// What cannot be reached, and what to check.
        message: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A database failed; `Pair::locate` says which one, where it is and what to do. Exit code 1.
    #[error("the database failed: {}", words(.0))]
    Database(rusqlite::Error),
    /// A fail point stood in for a crash: nothing may be cleaned up. Only tests see it.
    #[error("crashed at the fail point {0}")]
    Crashed(&'static str),
}

impl MigrateError {
    /// Something failed for a reason that has words only.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), source: None }
    }

    /// It would be wrong now.
    pub fn refused(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into(), remedy: remedy.into() }
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed { .. } | Self::Database(_) | Self::Crashed(_) => 1,
            Self::Usage(_) => 2,
            Self::Refused { .. } => 3,
            Self::Unreachable { .. } => 4,
        }
    }
}

impl From<rusqlite::Error> for MigrateError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<ManifestError> for MigrateError {
    fn from(error: ManifestError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<ControlError> for MigrateError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Refused { reason, remedy } => Self::Refused { reason, remedy },
            ControlError::UnknownContext { .. } => Self::Usage(error.to_string()),
            ControlError::CannotOpen { .. }
            | ControlError::Missing { .. }
            | ControlError::Replaced { .. }
            | ControlError::NoAnswer { .. }
            | ControlError::Silent { .. } => Self::Unreachable {
                message: "cannot reach the control store".to_owned(),
                source: Some(Box::new(error)),
            },
            _ => Self::Failed {
                message: "the control store did not do it".to_owned(),
                source: Some(Box::new(error)),
            },
        }
    }
}
