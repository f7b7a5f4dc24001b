//! What the control store answers when it does not do what it was asked.

/// Why the control store did not do it. Nothing was changed, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The file cannot be opened or is no control store.
    #[error("cannot open the control store{}: {reason}; check the settings control.path and control.url", spaced(.path))]
    CannotOpen {
        /// The file, or the server's `host:port/name`.
        path: String,
        /// Why.
        reason: String,
    },
    /// There is no control store where one was expected.
    #[error("cannot open the control store {place}: {what}; check the settings control.path and control.url")]
    Missing {
        /// The file, or the server's `host:port/name`.
        place: String,
        /// What was found instead.
        what: &'static str,
    },
    /// The file is no longer the one that this process opened.
    #[error("the control store {path} {what}; put it back, or restart every process that uses it")]
    Replaced {
        /// The file.
        path: String,
        /// What became of it.
        what: &'static str,
    },
    /// The server refuses, or nobody listens there.
    #[error("the control store {place} cannot be reached: {reason}")]
    NoAnswer {
        /// The server's `host:port/name`.
        place: String,
        /// Why.
        reason: String,
    },
    /// The server keeps its callers waiting.
    #[error("the control store {place} did not answer within {waited_ms} ms{}", doubt(*.maybe_done))]
    Silent {
        /// The server's `host:port/name`.
        place: String,
        /// How long it was waited for.
        waited_ms: u64,
        /// Whether the change may have been made, or may yet be.
        maybe_done: bool,
    },
    /// The caller stopped waiting before the change was made.
    #[error("the control store answered too late, nothing was changed")]
    GivenUp,
    /// The system gives out no thread to wait with.
    #[error("no thread for a call to the control store")]
    Thread(#[source] std::io::Error),
    /// No facade declared such a context.
    #[error("unknown context `{context}`; {}", known_contexts(.known))]
    UnknownContext {
        /// The name asked for.
        context: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The text is not a weight.
    #[error("`{text}` is not a weight: a percentage from 0 to 100 with at most two decimals is")]
    NoWeight {
        /// What stood there.
        text: String,
    },
    /// The text is not a side.
    #[error("`{text}` is not a side: `monolith` and `service` are")]
    NoSide {
        /// What stood there.
        text: String,
    },
    /// A gate is shut.
    #[error("refused: {reason}; {remedy}")]
    Refused {
        /// Which gate, and what it saw.
        reason: String,
        /// The command or deed that opens it.
        remedy: String,
    },
    /// The switch that the caller was carrying out is no longer the one in force, or its time ran out.
    #[error("the switch of {context} under token {token} is no longer in force")]
    SwitchLost {
        /// The context.
        context: String,
        /// The switch's token.
        token: i64,
    },
    /// The database failed.
    #[error("the control store failed")]
    Database(#[from] diesel::result::Error),
}

fn spaced(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" {path}") }
}

fn doubt(maybe_done: bool) -> &'static str {
    if maybe_done { "; whether the change was made is unknown, look at the flag" } else { "" }
}

fn known_contexts(known: &[String]) -> String {
    if known.is_empty() {
        "none is declared yet: start a facade whose configuration names it".to_owned()
    } else {
        format!("known: {}", known.join(", "))
    }
}
