//! Route: which route a request belongs to. What no route claims belongs to the monolith alone.
//!
//! Invariant: a request whose path could be read as one of another route, or as a private one, reaches no upstream.

use std::borrow::Cow;

use http::{StatusCode, request};

use crate::answer::Refusal;
use crate::plan::{ContextId, Plan, UpstreamId};
use crate::routing::{Asked, Goal, host_of, normal, readings};

/// Where a request belongs.
#[derive(Debug)]
pub(crate) struct Route<'r> {
    /// The path in normal form.
    pub(crate) path: Cow<'r, str>,
    /// The route's place among those of the settings.
    pub(crate) index: Option<usize>,
    /// The context of that route; it has none where the route names an upstream.
    pub(crate) context: Option<ContextId>,
    /// The upstream that the route names.
    pub(crate) upstream: Option<UpstreamId>,
    /// The private prefix that the path lies under, in whichever reading.
    pub(crate) private: Option<&'r str>,
    /// Another reading of the path, which belongs to another route.
    pub(crate) other_reading: Option<String>,
}

pub(crate) fn route<'r>(plan: &'r Plan, parts: &'r request::Parts) -> Route<'r> {
    let path = parts.uri.path();
    let private = plan.private.find(path);
    let path = normal(path);
    let asked =
        Asked { host: host_of(&parts.uri, &parts.headers), method: &parts.method, headers: &parts.headers };
    let rule = plan.routes.find(&path, &asked);
    let index = rule.map(|rule| rule.index);
    let of = |reading: &str| plan.routes.find(reading, &asked).map(|rule| rule.index);
    let other_reading = readings(&path).find(|reading| of(reading) != index);
    let (context, upstream) = match rule.map(|rule| rule.goal) {
        Some(Goal::Context(context)) => (Some(context), None),
        Some(Goal::Upstream(upstream)) => (None, Some(upstream)),
        None => (None, None),
    };
    Route { path, index, context, upstream, private, other_reading }
}

impl Route<'_> {
    /// Why nobody gets the request, if nobody does. What stands under a private path does not exist for clients.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        if self.private.is_some() {
            return Some(Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this path"));
        }
        self.other_reading.as_ref().map(|_| {
            let detail = "the path can be read in two ways that lead to different places; write it plainly";
            Refusal::new(StatusCode::BAD_REQUEST, detail)
        })
    }
}
