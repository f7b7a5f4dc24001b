//! Route: which context a path belongs to. A path that no route claims belongs to the monolith alone.

use std::borrow::Cow;

use crate::plan::{ContextId, Plan};
use crate::routing::normal;

/// Where a request belongs.
#[derive(Debug)]
pub(crate) struct Route<'r> {
    /// The path in normal form.
    pub(crate) path: Cow<'r, str>,
    pub(crate) context: Option<ContextId>,
}

pub(crate) fn route<'r>(plan: &Plan, path: &'r str) -> Route<'r> {
    let path = normal(path);
    let context = plan.routes.find(&path);
    Route { path, context }
}
