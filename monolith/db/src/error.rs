//! What can go wrong between a context and its database.
//!
//! Invariant: only a commit whose answer is missing leaves open whether the work was done.

use contracts::Unavailable;
use platform::error::chain;

/// Why the database could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The file or the server could not be opened or is not usable as it is.
    #[error("cannot open {path}: {reason}; {remedy}")]
    Open {
        /// The file or the server.
        path: String,
        /// What is wrong with it.
        reason: String,
        /// What mends it.
        remedy: String,
    },
    /// All connections stayed in use, or none could be made.
    #[error("no connection to {path} within {waited_ms} ms: {reason}; {remedy}")]
    NoConnection {
        /// The file or the server.
        path: String,
        /// How long a call waits, in milliseconds.
        waited_ms: u64,
        /// What stands in the way.
        reason: String,
        /// What mends it.
        remedy: &'static str,
    },
    /// The transaction did not begin; nothing was done.
    #[error("cannot begin a transaction in {path}")]
    Begin {
        /// The file or the server.
        path: String,
        /// Why.
        #[source]
        source: diesel::result::Error,
    },
    /// The transaction did not end as it should.
    #[error("cannot end a transaction in {path}")]
    End {
        /// The file or the server.
        path: String,
        /// Why.
        #[source]
        source: diesel::result::Error,
    },
    /// A statement failed; its transaction was rolled back.
    #[error("a statement failed")]
    Statement(#[from] diesel::result::Error),
    /// The server has stopped answering.
    #[error("{path} does not answer; see that the server runs and can be reached")]
    Silent {
        /// The server.
        path: String,
        /// Whether a commit was under way.
        maybe_done: bool,
    },
    /// The transaction was rolled back, since its caller gave up on a silent server. Nobody reads this.
    #[error("the caller of {path} gave up before the commit")]
    GivenUp {
        /// The server.
        path: String,
    },
    /// The process is stopping and takes no more work.
    #[error("the process is stopping")]
    Stopping,
    /// A context has no row in `banyan_contexts`.
    #[error("the database has no counter for {context}; restore it from a backup or begin with a new one")]
    NoCounter {
        /// The context.
        context: String,
    },
    /// A stored value is not one that this program writes.
    #[error("the database holds {what}, which this program does not understand; restore it from a backup")]
    Corrupt {
        /// Table, key and value.
        what: String,
    },
}

impl DbError {
    /// What a caller of the context learns.
    pub fn unavailable(&self, context: &str) -> Unavailable {
        Unavailable {
            context: context.to_owned(),
            reason: chain(self),
            maybe_done: matches!(self, Self::End { .. } | Self::Silent { maybe_done: true, .. }),
        }
    }
}
