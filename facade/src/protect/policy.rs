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

#[cfg(test)]
mod tests {
    use platform::settings::Secret;

    use super::*;
    use crate::settings::{Algorithm, JwtRuleSettings, JwtSettings, RateLimitSettings};

    fn errors(change: impl FnOnce(&mut Settings)) -> Vec<String> {
        let mut settings = Settings::default();
        settings.routes.push(RouteSettings { prefix: "/a".to_owned(), ..RouteSettings::default() });
        change(&mut settings);
        let mut errors = Vec::new();
        Protection::new(&settings, &mut errors);
        errors
    }

    fn of_jwt(jwt: JwtSettings) -> Vec<String> {
        errors(|settings| drop(settings.jwt.insert("main".to_owned(), jwt)))
    }

    fn assert_told(errors: &[String], parts: &[&str]) {
        assert_eq!(errors.len(), parts.len(), "{errors:?}");
        for (error, part) in errors.iter().zip(parts) {
            assert!(error.contains(part), "{part} is missing in {error}");
        }
    }

    #[test]
    fn nothing_is_on_unless_it_is_set() {
        let mut settings = Settings::default();
        settings.routes.push(RouteSettings::default());
        assert!(!Protection::new(&settings, &mut Vec::new()).is_on);
    }

    #[test]
    fn wrong_limits_are_told_together() {
        let told = errors(|settings| {
            settings.rate_limit =
                Some(RateLimitSettings { requests: 0, max_keys: 0, ..RateLimitSettings::default() });
            let key = RateKey::JwtClaim("sub".to_owned());
            settings.routes[0].rate_limit = Some(RateLimitSettings { key, ..RateLimitSettings::default() });
            settings.adaptive.upstreams = vec!["nobody".to_owned()];
        });
        assert_told(&told, &["rate_limit.requests", "rate_limit.max_keys", "no `jwt`", "nobody"]);
        let told = errors(|settings| {
            let (requests, burst, per) = (1, u32::MAX, crate::settings::Period::Hour);
            settings.rate_limit =
                Some(RateLimitSettings { requests, burst, per, ..RateLimitSettings::default() });
        });
        assert_told(&told, &["more than a year"]);
    }

    #[test]
    fn wrong_issuers_are_told_together() {
        assert_told(&of_jwt(JwtSettings::default()), &["exactly one"]);
        let url = || "https://issuer/jwks".to_owned();
        let short = Secret::new("short");
        assert_told(
            &of_jwt(JwtSettings { jwks_url: url(), secret: short, ..JwtSettings::default() }),
            &["exactly one", "5 bytes"],
        );
        let wrong = JwtSettings { jwks_url: "ftp://x".to_owned(), min_pause_s: 0, ..JwtSettings::default() };
        assert_told(&of_jwt(wrong), &["min_pause_s", "ftp://x"]);
        let confused =
            JwtSettings { jwks_url: url(), algorithms: vec![Algorithm::HS256], ..JwtSettings::default() };
        assert_told(&of_jwt(confused), &["HS256"]);
        let headers = [("a b".to_owned(), "sub".to_owned()), ("host".to_owned(), "sub".to_owned())].into();
        assert_told(
            &of_jwt(JwtSettings { jwks_url: url(), claim_headers: headers, ..JwtSettings::default() }),
            &["a b", "host"],
        );
        let missing = JwtSettings { jwks_file: "no-such-file".to_owned(), ..JwtSettings::default() };
        assert_told(&of_jwt(missing), &["no-such-file"]);
    }

    #[test]
    fn a_route_names_an_issuer_that_exists() {
        let told = errors(|settings| {
            settings.routes[0].jwt =
                Some(JwtRuleSettings { provider: "nobody".to_owned(), ..JwtRuleSettings::default() });
        });
        assert_told(&told, &["[jwt.nobody]"]);
    }
}
