//! What is asked of requests, route by route: rate limit, token, priority.
//!
//! Invariants: policies stand in the order of the routes in the settings; what no route claims has one of its own. What
//! follows upon new settings keeps what is known under the old ones wherever those did not change.

use std::sync::Arc;

use http::header::HeaderName;

use crate::plan::path_of;
use crate::protect::adaptive;
use crate::protect::jwt::{self, Provider};
use crate::protect::rate_limit::RateLimit;
use crate::protect::shedding::SheddingPlan;
use crate::protect::stats::RouteCounts;
use crate::settings::{AdaptiveSettings, HeaderSettings, Priority, RateKey, RouteSettings, Settings};

/// All policies, and what holds for every request.
#[derive(Debug)]
pub(crate) struct Protection {
    pub(crate) global: Option<Arc<RateLimit>>,
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
    /// The route as metrics name it, unlike any other; empty for what no route claims.
    pub(crate) name: String,
    pub(crate) priority: Priority,
    pub(crate) rate_limit: Option<Arc<RateLimit>>,
    pub(crate) jwt: Option<JwtRule>,
    /// What was refused.
    pub(crate) counts: Arc<RouteCounts>,
}

/// The token that a route asks for.
#[derive(Debug)]
pub(crate) struct JwtRule {
    pub(crate) provider: Arc<Provider>,
    pub(crate) scopes: Vec<String>,
    /// Whether preflights need no token.
    pub(crate) preflights: bool,
}

impl Protection {
    /// `upstreams` are all names in the order of the plan; `before` is what held until now.
    pub(crate) fn new(
        settings: &Settings,
        upstreams: Vec<String>,
        before: Option<&Self>,
        errors: &mut Vec<String>,
    ) -> Self {
        let known = before.and_then(|before| before.global.as_ref());
        let global = settings.rate_limit.as_ref();
        let global = global.map(|limit| RateLimit::following(known, limit, "global", "rate_limit", errors));
        let known = before.map_or(&[][..], |before| &before.providers);
        let providers: Vec<_> =
            settings.jwt.iter().map(|(name, jwt)| Provider::following(known, name, jwt, errors)).collect();
        jwt::check_headers(&providers, errors);
        let policy = |place| Policy::new(place, before, &providers, errors);
        let policies: Vec<_> = settings.routes.iter().enumerate().map(policy).collect();
        let shedding = SheddingPlan::new(&settings.shedding, errors);
        adaptive::check(&settings.adaptive, &settings.upstreams, errors);
        let is_on = shedding.is_on
            || global.is_some()
            || policies.iter().any(|policy| policy.rate_limit.is_some() || policy.jwt.is_some());
        let rest = Policy {
            counts: before.map(|before| Arc::clone(&before.rest.counts)).unwrap_or_default(),
            ..Policy::default()
        };
        let adaptive = settings.adaptive.clone();
        Self { global, policies, rest, providers, shedding, adaptive, upstreams, is_on }
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
        let of_routes = self.policies.iter().filter_map(|policy| policy.rate_limit.as_deref());
        self.global.as_deref().into_iter().chain(of_routes)
    }
}

impl Policy {
    fn new(
        (index, route): (usize, &RouteSettings),
        before: Option<&Protection>,
        providers: &[Arc<Provider>],
        errors: &mut Vec<String>,
    ) -> Self {
        let place = format!("routes[{index}].rate_limit");
        let limit = route.rate_limit.as_ref();
        if route.jwt.is_none() && limit.is_some_and(|limit| matches!(limit.key, RateKey::JwtClaim(_))) {
            errors
                .push(format!("setting `{place}.key` is a claim, but the route has no `jwt` that checks it"));
        }
        let name = name(route);
        let known = before.and_then(|before| before.policies.iter().find(|policy| policy.name == name));
        let known_limit = known.and_then(|policy| policy.rate_limit.as_ref());
        Self {
            priority: route.priority,
            rate_limit: limit.map(|limit| RateLimit::following(known_limit, limit, "route", &place, errors)),
            jwt: jwt_rule(index, route, providers, errors),
            counts: known.map(|policy| Arc::clone(&policy.counts)).unwrap_or_default(),
            name,
        }
    }
}

/// The path, and whatever else tells the route from others: `GET,PUT host/path [header=value]`, where `=` before a path
/// means the whole of it.
fn name(route: &RouteSettings) -> String {
    let methods = match route.methods.join(",") {
        none if none.is_empty() => none,
        methods => methods + " ",
    };
    let mut name = format!("{methods}{}", route.host);
    if route.prefix.is_empty() {
        name.push('=');
    }
    name.push_str(path_of(route));
    for HeaderSettings { name: header, equals, prefix } in &route.headers {
        let (sign, value) = match (equals, prefix) {
            (Some(value), _) => ("=", value.as_str()),
            (_, Some(value)) => ("^=", value.as_str()),
            _ => ("", ""),
        };
        name.push_str(&format!(" [{header}{sign}{value}]"));
    }
    name
}

fn jwt_rule(
    index: usize,
    route: &RouteSettings,
    providers: &[Arc<Provider>],
    errors: &mut Vec<String>,
) -> Option<JwtRule> {
    let rule = route.jwt.as_ref()?;
    let provider = providers.iter().find(|provider| provider.name == rule.provider);
    if provider.is_none() {
        errors.push(format!(
            "route {} `{}`, `jwt`: it asks for tokens of `{2}`, which does not exist; add [jwt.{2}]",
            index + 1,
            path_of(route),
            rule.provider
        ));
    }
    Some(JwtRule {
        provider: Arc::clone(provider?),
        scopes: rule.scopes.clone(),
        preflights: rule.preflights,
    })
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
        Protection::new(&settings, Vec::new(), None, &mut errors);
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
        assert!(!Protection::new(&settings, Vec::new(), None, &mut Vec::new()).is_on);
    }

    #[test]
    fn no_two_routes_have_one_name() {
        let route = |prefix: &str, path: &str, methods: &[&str], host: &str| RouteSettings {
            prefix: prefix.to_owned(),
            path: path.to_owned(),
            methods: methods.iter().map(|&method| method.to_owned()).collect(),
            host: host.to_owned(),
            ..RouteSettings::default()
        };
        let headers = vec![HeaderSettings { name: "x-a".to_owned(), ..HeaderSettings::default() }];
        let routes = [
            route("/a", "", &[], ""),
            route("", "/a", &[], ""),
            route("/a", "", &["GET"], ""),
            route("/a", "", &[], "h"),
            RouteSettings { headers, ..route("/a", "", &[], "") },
        ];
        assert_eq!(routes.map(|route| name(&route)), ["/a", "=/a", "GET /a", "h/a", "/a [x-a]"]);
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
