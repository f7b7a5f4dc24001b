//! The audit trail: who changed what, when, why, and past which gate.

use diesel::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conn::Conn;
use crate::error::ControlError;
use crate::flag::Flag;
use crate::flags::get;
use crate::schema::audit;
use crate::store::ControlStore;

/// Who asks for a change, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// A person's or a program's name.
    pub actor: String,
    /// Why, in the actor's words; must not be empty.
    pub reason: String,
}

impl Who {
    /// Names actor and reason.
    pub fn new(actor: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { actor: actor.into(), reason: reason.into() }
    }
}

/// One entry of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Queryable, Selectable, JsonSchema)]
#[diesel(table_name = audit)]
pub struct AuditRow {
    /// Grows with every entry.
    pub id: i64,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Which context.
    pub context: String,
    /// The fencing token after the change.
    pub token: i64,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What was done: `set`, `dual-write`, `pin`, `unpin`, `switch begun`, `flipped`, `switch finished`, `switch aborted`.
    pub action: String,
    /// State before.
    pub from_state: String,
    /// State after.
    pub to_state: String,
    /// Whether a shut gate was passed.
    pub forced: bool,
    /// What the gates saw.
    pub evidence: Option<String>,
}

impl ControlStore {
    /// The latest entries first, of one context or of all, at most `limit`.
    pub fn history(&self, context: Option<&str>, limit: i64) -> Result<Vec<AuditRow>, ControlError> {
        let context = context.map(str::to_owned);
        self.read(move |conn| {
            let mut query =
                audit::table.select(AuditRow::as_select()).order(audit::id.desc()).limit(limit).into_boxed();
            if let Some(context) = context {
                get(conn, &context)?;
                query = query.filter(audit::context.eq(context));
            }
            Ok(query.load(conn)?)
        })
    }
}

/// What is written beside a change.
pub(crate) struct Entry<'a> {
    pub(crate) who: &'a Who,
    pub(crate) action: &'static str,
    pub(crate) forced: bool,
    pub(crate) evidence: Option<String>,
}

pub(crate) fn record(
    conn: &mut Conn,
    entry: &Entry<'_>,
    before: &Flag,
    after: &Flag,
) -> Result<(), ControlError> {
    record_states(conn, entry, after, [describe(before), describe(after)])
}

/// The same for what is told in other words, from and to.
pub(crate) fn record_states(
    conn: &mut Conn,
    entry: &Entry<'_>,
    after: &Flag,
    [from, to]: [String; 2],
) -> Result<(), ControlError> {
    diesel::insert_into(audit::table)
        .values((
            audit::at_ms.eq(after.changed_at_ms),
            audit::context.eq(&after.context),
            audit::token.eq(after.token),
            audit::actor.eq(&entry.who.actor),
            audit::reason.eq(&entry.who.reason),
            audit::action.eq(entry.action),
            audit::from_state.eq(from),
            audit::to_state.eq(to),
            audit::forced.eq(entry.forced),
            audit::evidence.eq(&entry.evidence),
        ))
        .execute(conn)?;
    Ok(())
}

fn describe(flag: &Flag) -> String {
    let hold = match flag.hold {
        Some(hold) if hold.flipped => ", writes held until the new owner opens".to_owned(),
        Some(hold) => format!(", writes held for a switch to {}", hold.to),
        None => String::new(),
    };
    let followed = match (flag.dual_write, flag.captured) {
        (true, _) => "dual-write on",
        (false, true) => "captured",
        (false, false) => "dual-write off",
    };
    format!("reads {}%, writes {}, {followed}{hold}", flag.reads, flag.writes)
}
