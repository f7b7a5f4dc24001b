//! The settings, checked and compiled into what a worker needs at hand.
//!
//! Invariant: whoever holds a [`Plan`] need not ask whether a name in it exists.

mod listeners;
mod routes;

pub(crate) use routes::path_of;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use control::DataMode;
use http::header::HeaderName;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, StatusCode, Uri};
use platform::settings::shortened;

use crate::access_log::AccessLogPlan;
use crate::admin::{RouteView, views};
use crate::client::plan::ClientPlan;
use crate::key::KeyRule;
use crate::overrides::{Overrides, Wish, cookie_name};
use crate::private::{PrivatePaths, is_prefix};
use crate::protect::forwarded::ForwardedPlan;
use crate::protect::policy::Protection;
use crate::routing::{Goal, RouteTable};
use crate::settings::{ContextSettings, DnsSettings, Settings, TraceBegin};
use crate::upstream::members::literal;
use crate::upstream::plan::instances;
use crate::upstream::{Policy, Shared};

/// Contexts that may be added while a facade runs.
const SPARE_CONTEXTS: usize = 32;

/// A context's place in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContextId(pub(crate) usize);

/// An upstream's place in the plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UpstreamId(pub(crate) usize);

/// Everything that is wrong with the settings, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct PlanError(pub Vec<String>);

/// The settings in checked and compiled form.
#[derive(Debug)]
pub struct Plan {
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) monolith: UpstreamId,
    pub(crate) contexts: Vec<ContextPlan>,
    pub(crate) routes: RouteTable,
    pub(crate) private: PrivatePaths,
    pub(crate) limits: Limits,
    pub(crate) fallback: FallbackPlan,
    pub(crate) dns: DnsSettings,
    pub(crate) clients: ClientPlan,
    pub(crate) overrides: Option<Overrides>,
    /// Contexts that there is room for where something is kept per context: plans that follow may have more.
    pub(crate) context_room: usize,
    pub(crate) access_log: AccessLogPlan,
    pub(crate) trace: TraceBegin,
    pub(crate) forwarded: ForwardedPlan,
    pub(crate) protection: Arc<Protection>,
}

/// A server by name, with its instances.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) authorities: Vec<Authority>,
    pub(crate) policy: Policy,
    pub(crate) shared: Arc<Shared>,
    /// The settings know it no longer; it keeps its place, to which no route leads, and has no instances.
    pub(crate) is_retired: bool,
}

impl PartialEq for Upstream {
    /// What workers share of it follows from the rest.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.authorities == other.authorities
            && self.policy == other.policy
            && self.is_retired == other.is_retired
    }
}

impl Eq for Upstream {}

impl Upstream {
    /// Where its instances are, for people.
    pub(crate) fn url(&self) -> String {
        let urls: Vec<_> = self.authorities.iter().map(|authority| format!("http://{authority}")).collect();
        urls.join(", ")
    }

    /// The same for requests to come, without instances.
    fn retired(&self) -> Self {
        let none = self.shared.members().after(&[], &[], |_| Vec::new());
        let shared = Arc::new(Shared::new(none.unwrap_or_default(), &self.policy));
        Self { authorities: Vec::new(), shared, is_retired: true, ..self.clone() }
    }
}

/// A context with its service and its key.
#[derive(Debug)]
pub(crate) struct ContextPlan {
    pub(crate) name: String,
    pub(crate) service: UpstreamId,
    pub(crate) data: DataMode,
    pub(crate) keys: Vec<KeyRule>,
    /// Name of the cookie that carries an override.
    pub(crate) override_cookie: String,
    /// The settings know it no longer; it keeps its place, to which no route leads.
    pub(crate) is_retired: bool,
}

/// Timeouts as durations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) header: Duration,
    /// None: no such limit.
    pub(crate) total: Option<Duration>,
    pub(crate) canary_header: Duration,
    pub(crate) body_idle: Duration,
}

/// When a canary read falls back.
#[derive(Debug)]
pub(crate) struct FallbackPlan {
    pub(crate) statuses: Vec<StatusCode>,
    pub(crate) hold_bytes: usize,
    pub(crate) hold: Duration,
}

impl Plan {
    /// Checks the settings as a whole and reports everything that is wrong at once. Each line begins with the setting
    /// at fault, by which `facade check` finds its place in the file.
    pub fn new(settings: &Settings) -> Result<Self, PlanError> {
        Self::build(settings, None)
    }

    /// What is allowed, and yet hardly meant.
    pub fn doubts(&self) -> Vec<String> {
        self.clients.tls.as_ref().map_or_else(Vec::new, |tls| tls.certificates.doubts())
    }

    /// Whether nobody here or at an upstream believes a header of this name, whoever sends it.
    pub(crate) fn is_harmless(&self, name: &HeaderName) -> bool {
        self.forwarded.is_harmless(name)
            && !self.overrides.as_ref().is_some_and(|overrides| overrides.is_header(name))
    }

    /// The same for settings that take the place of others: what both know keeps its place, and what is new gets a new
    /// one, so that places in either plan mean the same.
    pub(crate) fn after(&self, settings: &Settings) -> Result<Self, PlanError> {
        Self::build(settings, Some(self))
    }

    fn build(settings: &Settings, before: Option<&Self>) -> Result<Self, PlanError> {
        let mut errors = Vec::new();
        let upstreams = upstreams(settings, before, &mut errors);
        let monolith = upstream_named(&upstreams, &settings.monolith).unwrap_or_else(|| {
            errors.push(format!(
                "setting `monolith` names the upstream `{0}`, which does not exist; add [upstreams.{0}] with its url",
                settings.monolith
            ));
            UpstreamId(0)
        });
        let contexts = contexts(settings, before, &upstreams, &mut errors);
        let context_room = before.map_or(contexts.len() + SPARE_CONTEXTS, |plan| plan.context_room);
        if contexts.len() > context_room {
            errors.push(format!(
                "setting `contexts`: {SPARE_CONTEXTS} were added since the start; no more without a restart"
            ));
        }
        let routes = routes::table(settings, &upstreams, &contexts, &mut errors);
        let private = private(settings, &mut errors);
        let limits = limits(settings, &mut errors);
        if settings.dns.interval_ms == 0 || settings.dns.timeout_ms == 0 {
            errors.push(
                "setting `dns` has an interval_ms or timeout_ms of 0; left out, they have sane values"
                    .to_owned(),
            );
        }
        let fallback = fallback(settings, &mut errors);
        let clients = ClientPlan::new(settings, &mut errors);
        let overrides = Overrides::new(&settings.overrides, &mut errors);
        let access_log = AccessLogPlan::new(settings, &mut errors);
        let names = upstreams.iter().map(|upstream| upstream.name.clone()).collect();
        let known = before.map(|plan| &*plan.protection);
        let protection = Protection::new(settings, names, known, &mut errors);
        let reserved = protection.reserved_headers();
        let forwarded = ForwardedPlan::new(&settings.forwarded, reserved, &mut errors);
        listeners::check(settings, &mut errors);
        let of_control = |reason| match settings.control.url.expose() {
            "" => format!("setting `control`: {reason}"),
            _ => format!("setting `control.url`: {reason}"),
        };
        errors.extend(settings.control.check().err().map(of_control));
        if settings.upstreams.contains_key("") {
            errors.push("setting `upstreams`: one has no name; write [upstreams.NAME]".to_owned());
        }
        if !errors.is_empty() {
            return Err(PlanError(errors.iter().map(|error| shortened(error)).collect()));
        }
        Ok(Self {
            upstreams,
            monolith,
            contexts,
            routes,
            private,
            limits,
            fallback,
            dns: settings.dns.clone(),
            clients,
            overrides,
            context_room,
            access_log,
            trace: settings.trace.begin,
            forwarded,
            protection: Arc::new(protection),
        })
    }

    pub(crate) fn upstream(&self, id: UpstreamId) -> Option<&Upstream> {
        self.upstreams.get(id.0)
    }

    /// What has to be resolved.
    pub(crate) fn names(&self) -> Vec<Authority> {
        let all = self.upstreams.iter().flat_map(|upstream| &upstream.authorities);
        let mut names: Vec<_> = all.filter(|authority| literal(authority).is_none()).cloned().collect();
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        names
    }

    pub(crate) fn context(&self, id: ContextId) -> Option<&ContextPlan> {
        self.contexts.get(id.0)
    }

    /// The side that a request wishes to be answered by, if it does.
    pub(crate) fn wish(&self, context: &ContextPlan, headers: &HeaderMap) -> Wish {
        self.overrides.as_ref().map_or(Wish::Nothing, |overrides| overrides.wish(context, headers))
    }

    /// The route table in the order in which it is tried.
    pub fn route_views(&self) -> Vec<RouteView> {
        views::routes(self)
    }

    /// Whether any route leads to a context of this name.
    pub(crate) fn is_routed(&self, context: &str) -> bool {
        let leads_there = |id: ContextId| self.context(id).is_some_and(|found| found.name == context);
        self.routes.iter().any(|rule| matches!(rule.goal, Goal::Context(id) if leads_there(id)))
    }

    /// Names of all contexts.
    pub fn context_names(&self) -> impl Iterator<Item = &str> {
        self.contexts.iter().map(|context| context.name.as_str())
    }
}

fn upstreams(settings: &Settings, before: Option<&Plan>, errors: &mut Vec<String>) -> Vec<Upstream> {
    let mut read = |name: &str| {
        let upstream = settings.upstreams.get(name)?;
        let policy = Policy::new(name, upstream, errors);
        let authorities = instances(name, upstream, errors, authority);
        let known = before.and_then(|plan| plan.upstreams.iter().find(|known| known.name == name));
        // One that did not change goes on with what is known of it, and so does an instance that stays.
        let members = known.map_or_else(Arc::default, |known| known.shared.members());
        let after = members.after(&authorities, &policy.weights, |name| members.addresses(name));
        let shared = Arc::new(Shared::new(after.unwrap_or_else(|| (*members).clone()), &policy));
        let new = Upstream { name: name.to_owned(), authorities, policy, shared, is_retired: false };
        Some(known.filter(|known| **known == new).cloned().unwrap_or(new))
    };
    let known = before.map_or(&[][..], |plan| &plan.upstreams);
    let is_new = |name: &&String| !known.iter().any(|upstream| upstream.name == **name);
    let kept: Vec<_> =
        known.iter().map(|upstream| read(&upstream.name).unwrap_or_else(|| upstream.retired())).collect();
    let new = settings.upstreams.keys().filter(is_new).filter_map(|name| read(name)).collect();
    [kept, new].concat()
}

fn contexts(
    settings: &Settings,
    before: Option<&Plan>,
    upstreams: &[Upstream],
    errors: &mut Vec<String>,
) -> Vec<ContextPlan> {
    let known = before.map_or(&[][..], |plan| &plan.contexts);
    let is_new = |name: &&str| !known.iter().any(|context| context.name == *name);
    let names = known.iter().map(|context| context.name.as_str());
    let new = settings.contexts.keys().map(String::as_str).filter(is_new);
    let plan = |name: &str| match settings.contexts.get(name) {
        Some(context) => ContextPlan {
            override_cookie: cookie_name(&settings.overrides.cookie, name),
            ..context_plan(name, context, upstreams, errors)
        },
        None => ContextPlan::retired(name),
    };
    names.chain(new).map(plan).collect()
}

fn authority(url: &str) -> Result<Authority, String> {
    let wanted = "write it as http://host:port, without a path";
    let uri: Uri = url.parse().map_err(|_| format!("`{url}` is no URL; {wanted}"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("`{url}` does not begin with http://; {wanted}"));
    }
    if !matches!(uri.path_and_query().map(PathAndQuery::as_str), None | Some("/")) {
        return Err(format!("`{url}` has a path, and a facade does not rewrite paths; {wanted}"));
    }
    match uri.into_parts().authority {
        Some(authority) if authority.port_u16() == Some(0) => {
            Err(format!("`{url}` has port 0, where nobody can listen; {wanted}"))
        }
        Some(authority) if is_broken_address(authority.host()) => {
            Err(format!("`{url}` names no address: each of its four numbers is at most 255; {wanted}"))
        }
        Some(authority) if authority.as_str().contains('@') => {
            Err(format!("`{url}` holds user information; {wanted}"))
        }
        Some(authority) if authority.port_u16().is_some() => Ok(authority),
        Some(authority) => format!("{authority}:80")
            .parse()
            .map_err(|_| format!("`{url}` has no port from 1 to 65535; {wanted}")),
        None => Err(format!("`{url}` names no host; {wanted}")),
    }
}

/// Names do not end in a number (RFC 3986 §7.4 and the URL standard), so this was meant for an address.
fn is_broken_address(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) && host.parse::<Ipv4Addr>().is_err()
}

fn upstream_named(upstreams: &[Upstream], name: &str) -> Option<UpstreamId> {
    upstreams.iter().position(|upstream| upstream.name == name).map(UpstreamId)
}

fn context_plan(
    name: &str,
    context: &ContextSettings,
    upstreams: &[Upstream],
    errors: &mut Vec<String>,
) -> ContextPlan {
    let service = upstream_named(upstreams, &context.service).unwrap_or_else(|| {
        errors.push(format!(
            "setting `contexts.{name}.service` names the upstream `{0}`, which does not exist; add [upstreams.{0}] with its url",
            context.service
        ));
        UpstreamId(0)
    });
    let mut keys = Vec::new();
    for (index, source) in context.key.iter().enumerate() {
        match KeyRule::parse(source) {
            Ok(rule) => keys.extend(rule),
            Err(reason) => errors.push(format!("setting `contexts.{name}.key[{index}]`: {reason}")),
        }
    }
    errors.extend(control::check_context_name(name).err());
    let data = context.data;
    ContextPlan { service, data, keys, is_retired: false, ..ContextPlan::retired(name) }
}

impl ContextPlan {
    fn retired(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            service: UpstreamId::default(),
            data: DataMode::Replicated,
            keys: Vec::new(),
            override_cookie: String::new(),
            is_retired: true,
        }
    }
}

fn private(settings: &Settings, errors: &mut Vec<String>) -> PrivatePaths {
    let mut prefixes: Vec<String> = Vec::new();
    for (index, prefix) in settings.private.iter().enumerate() {
        let trimmed = prefix.trim_end_matches('/').to_owned();
        if !is_prefix(prefix) {
            errors.push(format!(
                "setting `private[{index}]` is `{prefix}`; a prefix is a plain path that begins with `/`, and not the root"
            ));
        } else if prefixes.contains(&trimmed) {
            errors.push(format!("setting `private[{index}]` is `{prefix}` again; leave one"));
        } else {
            prefixes.push(trimmed);
        }
    }
    let private = PrivatePaths::new(prefixes);
    for (index, route) in settings.routes.iter().enumerate() {
        if let Some(found) = private.find(routes::path_of(route)) {
            errors.push(format!(
                "{} lies under `{found}` in setting `private`, so nothing would ever take it",
                routes::name(index, route)
            ));
        }
    }
    private
}

fn limits(settings: &Settings, errors: &mut Vec<String>) -> Limits {
    let timeouts = &settings.timeouts;
    let mut duration = |name: &str, ms: u64| {
        if ms == 0 {
            errors.push(format!("setting `timeouts.{name}` is 0; nothing would ever succeed"));
        }
        Duration::from_millis(ms)
    };
    let limits = Limits {
        connect: duration("connect_ms", timeouts.connect_ms),
        header: duration("header_ms", timeouts.header_ms),
        total: (timeouts.total_ms > 0).then(|| Duration::from_millis(timeouts.total_ms)),
        canary_header: duration("canary_header_ms", timeouts.canary_header_ms),
        body_idle: duration("body_idle_ms", timeouts.body_idle_ms),
    };
    // The client side has it.
    duration("client_header_ms", timeouts.client_header_ms);
    limits
}

fn fallback(settings: &Settings, errors: &mut Vec<String>) -> FallbackPlan {
    let mut statuses = Vec::new();
    for (index, status) in settings.fallback.statuses.iter().enumerate() {
        match StatusCode::from_u16(*status) {
            Ok(code) if code.is_server_error() => statuses.push(code),
            _ => errors.push(format!(
                "setting `fallback.statuses[{index}]` is {status}; only 500 to 599 can fall back"
            )),
        }
    }
    let hold = Duration::from_millis(settings.fallback.hold_ms);
    FallbackPlan { statuses, hold_bytes: settings.fallback.hold_bytes, hold }
}

#[cfg(test)]
mod tests;
