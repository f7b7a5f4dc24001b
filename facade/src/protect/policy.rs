//! What is asked of requests, route by route: rate limit, token, priority.
//!
//! Invariant: policies stand in the order of the routes in the settings; what no route claims has one of its own.

use crate::protect::rate_limit::RateLimit;
use crate::settings::{Priority, Settings};

/// All policies, and what holds for every request.
#[derive(Debug)]
pub(crate) struct Protection {
    pub(crate) global: Option<RateLimit>,
    policies: Vec<Policy>,
    rest: Policy,
    /// Whether anything at all is asked of any request.
    pub(crate) is_on: bool,
}

/// What is asked of the requests of one route.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    /// The route as metrics name it; empty for what no route claims.
    pub(crate) name: String,
    pub(crate) priority: Priority,
    pub(crate) rate_limit: Option<RateLimit>,
}

impl Protection {
    pub(crate) fn new(settings: &Settings, errors: &mut Vec<String>) -> Self {
        let global = settings.rate_limit.as_ref();
        let global = global.map(|limit| RateLimit::new(limit, "global", "rate_limit", errors));
        let mut policies = Vec::new();
        for route in &settings.routes {
            let place = format!("routes[{}].rate_limit", route.prefix);
            let limit = route.rate_limit.as_ref();
            policies.push(Policy {
                name: route.prefix.clone(),
                priority: route.priority,
                rate_limit: limit.map(|limit| RateLimit::new(limit, "route", &place, errors)),
            });
        }
        let is_on = global.is_some() || policies.iter().any(|policy| policy.rate_limit.is_some());
        Self { global, policies, rest: Policy::default(), is_on }
    }

    /// The policy of a route by its place in the settings.
    pub(crate) fn policy(&self, route: Option<usize>) -> &Policy {
        route.and_then(|place| self.policies.get(place)).unwrap_or(&self.rest)
    }

    /// Policies by place; the last is that of what no route claims.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter().chain(std::iter::once(&self.rest))
    }

    /// Every rate limit.
    pub(crate) fn limits(&self) -> impl Iterator<Item = &RateLimit> {
        let of_routes = self.policies.iter().filter_map(|policy| policy.rate_limit.as_ref());
        self.global.iter().chain(of_routes)
    }
}
