//! Route: which context a path belongs to. A path that no route claims belongs to the monolith alone.

use std::borrow::Cow;

use http::StatusCode;

use crate::answer::Refusal;
use crate::plan::{ContextId, Plan};
use crate::routing::normal;

/// Where a request belongs.
#[derive(Debug)]
pub(crate) struct Route<'r> {
    /// The path in normal form.
    pub(crate) path: Cow<'r, str>,
    pub(crate) context: Option<ContextId>,
    /// The route's place in the settings.
    pub(crate) index: Option<usize>,
    /// The private prefix that the path lies under, in whichever reading: nobody gets the request then.
    pub(crate) private: Option<&'r str>,
}

pub(crate) fn route<'r>(plan: &'r Plan, path: &'r str) -> Route<'r> {
    let private = plan.private.find(path);
    let path = normal(path);
    let found = plan.routes.route(&path).map(|(_, context, index)| (context, index));
    Route { path, context: found.map(|(context, _)| context), index: found.map(|(_, index)| index), private }
}

/// What stands under a private path does not exist for clients.
pub(crate) fn unknown() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this path")
}
