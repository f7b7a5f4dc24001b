//! What the control store answers when it does not do what it was asked.

/// Why the control store did not do it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The file cannot be opened or is no control store.
    #[error("cannot open the control store {path}: {reason}; check the setting control.path")]
    CannotOpen {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
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
    /// No connection could be had.
    #[error("no connection to the control store")]
    Pool(#[from] diesel::r2d2::PoolError),
}

fn known_contexts(known: &[String]) -> String {
    if known.is_empty() {
        "none is declared yet: start a facade whose configuration names it".to_owned()
    } else {
        format!("known: {}", known.join(", "))
    }
}
