//! What is asked of requests, route by route: rate limit, token, priority.
//!
//! Invariant: policies stand in the order of the routes in the settings; what no route claims has one of its own.

use std::sync::Arc;

use http::header::HeaderName;

use crate::protect::adaptive;
use crate::protect::jwt::{self, Provider};
use crate::protect::rate_limit::RateLimit;
use crate::protect::shedding::SheddingPlan;
use crate::settings::{AdaptiveSettings, Priority, RateKey, RouteSettings, Settings};

/// All policies, and what holds for every request.
#[derive(Debug)]
pub(crate) struct Protection {
    pub(crate) global: Option<RateLimit>,
    policies: Vec<Policy>,
    rest: Policy,
    pub(crate) providers: Vec<Arc<Provider>>,
    pub(crate) shedding: SheddingPlan,
    pub(crate) adaptive: AdaptiveSettings,
    /// Names of the upstreams, in the order of the plan.
    pub(crate) upstreams: Vec<String>,
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
    pub(crate) jwt: Option<JwtRule>,
}

/// The token that a route asks for.
#[derive(Debug)]
pub(crate) struct JwtRule {
    pub(crate) provider: Arc<Provider>,
    pub(crate) scopes: Vec<String>,
}

impl Protection {
    pub(crate) fn new(settings: &Settings, errors: &mut Vec<String>) -> Self {
        let global = settings.rate_limit.as_ref();
        let global = global.map(|limit| RateLimit::new(limit, "global", "rate_limit", errors));
        let providers: Vec<_> =
            settings.jwt.iter().map(|(name, jwt)| Provider::new(name, jwt, errors)).collect();
        jwt::check_headers(&providers, errors);
        let mut policies = Vec::new();
        for route in &settings.routes {
            let place = format!("routes[{}].rate_limit", route.prefix);
            let limit = route.rate_limit.as_ref();
            if route.jwt.is_none() && limit.is_some_and(|limit| matches!(limit.key, RateKey::JwtClaim(_))) {
                errors.push(format!(
                    "setting `{place}.key` is a claim, but the route has no `jwt` that checks it"
                ));
            }
            policies.push(Policy {
                name: route.prefix.clone(),
                priority: route.priority,
                rate_limit: limit.map(|limit| RateLimit::new(limit, "route", &place, errors)),
                jwt: jwt_rule(route, &providers, errors),
            });
        }
        let shedding = SheddingPlan::new(&settings.shedding, errors);
        let upstreams: Vec<String> = settings.upstreams.keys().cloned().collect();
        adaptive::check(&settings.adaptive, &upstreams, errors);
        let is_on = shedding.is_on
            || global.is_some()
            || policies.iter().any(|policy| policy.rate_limit.is_some() || policy.jwt.is_some());
        Self {
            global,
            policies,
            rest: Policy::default(),
            providers,
            shedding,
            adaptive: settings.adaptive.clone(),
            upstreams,
            is_on,
        }
    }

    /// Headers that only claims may fill, on every route.
    pub(crate) fn reserved_headers(&self) -> Vec<HeaderName> {
        self.providers.iter().flat_map(|provider| provider.header_names()).collect()
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

fn jwt_rule(route: &RouteSettings, providers: &[Arc<Provider>], errors: &mut Vec<String>) -> Option<JwtRule> {
    let rule = route.jwt.as_ref()?;
    let provider = providers.iter().find(|provider| provider.name == rule.provider);
    if provider.is_none() {
        errors.push(format!(
            "route `{}` asks for tokens of `{1}`, which does not exist; add [jwt.{1}]",
            route.prefix, rule.provider
        ));
    }
    Some(JwtRule { provider: Arc::clone(provider?), scopes: rule.scopes.clone() })
}
