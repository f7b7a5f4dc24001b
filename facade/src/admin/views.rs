//! What the admin API shows, and what the command line reads of it.

use control::{AuditRow, Flag, Stage};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::plan::{Plan, UpstreamId};

/// A list, in an object so that it can grow.
#[derive(Debug, Serialize, Deserialize)]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
}

/// A flag with its stage.
#[derive(Debug, Serialize, Deserialize)]
pub struct FlagView {
    /// The flag.
    #[serde(flatten)]
    pub flag: Flag,
    /// Where the context stands; follows from the flag.
    pub stage: Stage,
    /// When the flag was last changed; null where it never was.
    pub changed_at: Option<String>,
}

impl From<Flag> for FlagView {
    fn from(flag: Flag) -> Self {
        let changed_at = (flag.changed_at_ms > 0).then(|| instant(flag.changed_at_ms));
        Self { stage: flag.stage(), changed_at, flag }
    }
}

/// A row of the audit trail.
#[derive(Debug, Serialize, Deserialize)]
pub struct HistoryView {
    /// The row.
    #[serde(flatten)]
    pub row: AuditRow,
    /// When it was written.
    pub at: String,
}

impl From<AuditRow> for HistoryView {
    fn from(row: AuditRow) -> Self {
        Self { at: instant(row.at_ms), row }
    }
}

/// A route, and where it may lead.
#[derive(Debug, Serialize, Deserialize)]
pub struct RouteView {
    /// What paths begin with.
    pub prefix: String,
    /// The context, or null for the rest, which the monolith alone answers.
    pub context: Option<String>,
    /// Never forwarded, but answered with 404.
    pub private: bool,
    /// The monolith's URL; null for a private prefix.
    pub monolith: Option<String>,
    /// The service's URL.
    pub service: Option<String>,
    /// Where the sticky key is found, in order.
    pub key: Vec<String>,
}

/// The route table in the order in which it is tried.
pub(crate) fn routes(plan: &Plan) -> Vec<RouteView> {
    let url = |id: UpstreamId| plan.upstream(id).map(crate::plan::Upstream::url);
    let monolith = url(plan.monolith);
    let private = plan.private.iter().map(|prefix| RouteView {
        prefix: prefix.to_owned(),
        context: None,
        private: true,
        monolith: None,
        service: None,
        key: Vec::new(),
    });
    let claimed = plan.routes.iter().filter_map(|(prefix, id)| {
        let context = plan.context(id)?;
        Some(RouteView {
            prefix: if prefix.is_empty() { "/".to_owned() } else { prefix.to_owned() },
            context: Some(context.name.clone()),
            private: false,
            monolith: monolith.clone(),
            service: url(context.service),
            key: context.keys.iter().map(ToString::to_string).collect(),
        })
    });
    let rest = RouteView {
        prefix: "/".to_owned(),
        context: None,
        private: false,
        monolith: monolith.clone(),
        service: None,
        key: Vec::new(),
    };
    let has_root = plan.routes.iter().any(|(prefix, _)| prefix.is_empty());
    private.chain(claimed).chain((!has_root).then_some(rest)).collect()
}

fn instant(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map(|instant| format!("{instant:.3}")).unwrap_or_default()
}
