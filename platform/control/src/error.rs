//! What the control store answers when it does not do what it was asked.

/// Why the control store did not do it. Nothing was changed, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The file cannot be opened or is no control store.
    #[error("cannot open the control store{}: {reason}; {}", spaced(.path), remedy(.reason))]
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
    #[error("{}", failed(.0))]
    Database(#[from] diesel::result::Error),
}

/// What helps, by what SQLite says; the settings are wrong only where nothing else is.
fn remedy(reason: &str) -> &'static str {
    let says = |words: &str| reason.contains(words);
    if says("is locked") {
        return "another process keeps it locked: end that one (`fuser` on the file names it), then start again";
    }
    if says("readonly database") {
        return "let this user write to the file and to its folder";
    }
    if is_damage(reason) {
        return "put back a copy of the file, or name a control store in the setting control.path";
    }
    "check the settings control.path and control.url"
}

fn is_damage(reason: &str) -> bool {
    ["file is not a database", "malformed"].iter().any(|words| reason.contains(words))
}

fn failed(error: &diesel::result::Error) -> &'static str {
    if is_damage(&error.to_string()) {
        return "the control store is damaged, put back a copy of its file";
    }
    "the control store failed"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_follows_from_what_is_wrong() {
        for (reason, helps) in [
            ("database is locked", "`fuser`"),
            ("attempt to write a readonly database", "let this user write"),
            ("file is not a database", "put back a copy"),
            ("unable to open database file", "check the settings control.path"),
        ] {
            let error = ControlError::CannotOpen { path: "control.db".to_owned(), reason: reason.to_owned() };
            assert!(error.to_string().contains(helps), "{error}");
        }
    }
}
