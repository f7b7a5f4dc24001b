//! What the admin API shows, and what the command line reads of it.

use control::{AuditRow, Flag, Stage};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{Plan, UpstreamId};
use crate::routing::Goal;

/// A list, in an object so that it can grow.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}List")]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
}

/// A flag with its stage.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct RouteView {
    /// What paths begin with, or the whole path with parameters, as written.
    pub path: String,
    /// How the path is meant.
    pub kind: RouteKind,
    /// Host, `*.host`, or `*` for any.
    pub host: String,
    /// Methods; none means all.
    pub methods: Vec<String>,
    /// Headers that a request must have.
    pub headers: Vec<String>,
    /// The context; null where the flags do not matter.
    pub context: Option<String>,
    /// URL of the monolith, or of the upstream that the route names; null for a private prefix.
    pub upstream: Option<String>,
    /// The service's URL.
    pub service: Option<String>,
    /// Where the sticky key is found, in order.
    pub key: Vec<String>,
}

/// What kind of path a route has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// Everything that begins with it.
    #[default]
    Prefix,
    /// Whole paths.
    Template,
    /// Everything that begins with it is answered with 404.
    Private,
    /// What no route claims.
    Rest,
}

/// The route table in the order in which it is tried.
pub(crate) fn routes(plan: &Plan) -> Vec<RouteView> {
    let url = |id: UpstreamId| plan.upstream(id).map(crate::plan::Upstream::url);
    let any = |path: &str, kind| RouteView {
        path: path.to_owned(),
        kind,
        host: "*".to_owned(),
        ..RouteView::default()
    };
    let private = plan.private.iter().map(|prefix| any(prefix, RouteKind::Private));
    let claimed = plan.routes.iter().map(|rule| {
        let route = RouteView {
            path: rule.text.clone(),
            kind: if rule.is_prefix { RouteKind::Prefix } else { RouteKind::Template },
            host: rule.host.to_string(),
            methods: rule.methods.names(),
            headers: rule.headers.iter().map(ToString::to_string).collect(),
            ..RouteView::default()
        };
        match rule.goal {
            Goal::Upstream(id) => RouteView { upstream: url(id), ..route },
            Goal::Context(id) => {
                let context = plan.context(id);
                RouteView {
                    context: context.map(|context| context.name.clone()),
                    upstream: url(plan.monolith),
                    service: context.and_then(|context| url(context.service)),
                    key: context.iter().flat_map(|context| &context.keys).map(ToString::to_string).collect(),
                    ..route
                }
            }
        }
    });
    let rest = RouteView { upstream: url(plan.monolith), ..any("/", RouteKind::Rest) };
    private.chain(claimed).chain([rest]).collect()
}

pub(super) fn instant(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map(|instant| format!("{instant:.3}")).unwrap_or_default()
}
