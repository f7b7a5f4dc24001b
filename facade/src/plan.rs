//! The settings, checked and compiled into what a worker needs at hand.
//!
//! Invariant: whoever holds a [`Plan`] need not ask whether a name in it exists.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use control::DataMode;
use http::uri::{Authority, PathAndQuery};
use http::{StatusCode, Uri};
use platform::settings::Secret;

use crate::admin::{RouteView, views};
use crate::key::KeyRule;
use crate::private::{PrivatePaths, is_prefix};
use crate::routing::{RouteTable, normal};
use crate::settings::{ContextSettings, RouteSettings, Settings};
use crate::upstream::plan::instances;
use crate::upstream::{Policy, Shared};

/// Worker threads that a facade may be told to start.
const MOST_WORKERS: usize = 512;

/// A context's place in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContextId(pub(crate) usize);

/// An upstream's place in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// A server by name, with its instances.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) authorities: Vec<Authority>,
    pub(crate) policy: Policy,
    pub(crate) shared: Arc<Shared>,
}

impl PartialEq for Upstream {
    /// What workers share of it follows from the rest.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.authorities == other.authorities && self.policy == other.policy
    }
}

impl Eq for Upstream {}

impl Upstream {
    /// Where its instances are, for people.
    pub(crate) fn url(&self) -> String {
        let urls: Vec<_> = self.authorities.iter().map(|authority| format!("http://{authority}")).collect();
        urls.join(", ")
    }
}

/// A context with its service and its key.
#[derive(Debug)]
pub(crate) struct ContextPlan {
    pub(crate) name: String,
    pub(crate) service: UpstreamId,
    pub(crate) data: DataMode,
    pub(crate) keys: Vec<KeyRule>,
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
    pub(crate) client_header: Duration,
}

/// When a canary read falls back.
#[derive(Debug)]
pub(crate) struct FallbackPlan {
    pub(crate) statuses: Vec<StatusCode>,
    pub(crate) hold_bytes: usize,
    pub(crate) hold: Duration,
}

impl Plan {
    /// Checks the settings as a whole and reports everything that is wrong at once.
    pub fn new(settings: &Settings) -> Result<Self, PlanError> {
        let mut errors = Vec::new();
        let upstreams = upstreams(settings, &mut errors);
        let monolith = upstream_named(&upstreams, &settings.monolith).unwrap_or_else(|| {
            errors.push(format!(
                "setting `monolith` names the upstream `{0}`, which does not exist; add [upstreams.{0}] with its url",
                settings.monolith
            ));
            UpstreamId(0)
        });
        let contexts: Vec<_> = settings
            .contexts
            .iter()
            .map(|(name, context)| context_plan(name, context, &upstreams, &mut errors))
            .collect();
        let routes = routes(&settings.routes, &settings.contexts, &mut errors);
        let private = private(settings, &mut errors);
        let limits = limits(settings, &mut errors);
        let fallback = fallback(settings, &mut errors);
        check_listeners(settings, &mut errors);
        if !settings.control.is_set() {
            errors.push(
                "setting `control.path` is missing; name the file of the control store, where flags live"
                    .to_owned(),
            );
        }
        if errors.is_empty() {
            return Ok(Self { upstreams, monolith, contexts, routes, private, limits, fallback });
        }
        Err(PlanError(errors))
    }

    pub(crate) fn upstream(&self, id: UpstreamId) -> Option<&Upstream> {
        self.upstreams.get(id.0)
    }

    pub(crate) fn context(&self, id: ContextId) -> Option<&ContextPlan> {
        self.contexts.get(id.0)
    }

    /// The route table in the order in which it is tried.
    pub fn route_views(&self) -> Vec<RouteView> {
        views::routes(self)
    }

    /// Names of all contexts.
    pub fn context_names(&self) -> impl Iterator<Item = &str> {
        self.contexts.iter().map(|context| context.name.as_str())
    }
}

fn upstreams(settings: &Settings, errors: &mut Vec<String>) -> Vec<Upstream> {
    let mut upstreams = Vec::new();
    for (name, upstream) in &settings.upstreams {
        let policy = Policy::new(name, upstream, errors);
        let authorities = instances(name, upstream, errors, authority);
        let shared = Arc::new(Shared::new(authorities.clone(), &policy));
        upstreams.push(Upstream { name: name.clone(), authorities, policy, shared });
    }
    upstreams
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
        Some(authority) if authority.as_str().contains('@') => {
            Err(format!("`{url}` holds user information; {wanted}"))
        }
        Some(authority) if authority.port_u16().is_some() => Ok(authority),
        Some(authority) => {
            format!("{authority}:80").parse().map_err(|_| format!("`{url}` has no port; {wanted}"))
        }
        None => Err(format!("`{url}` names no host; {wanted}")),
    }
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
    for source in &context.key {
        match KeyRule::parse(source) {
            Ok(rule) => keys.extend(rule),
            Err(reason) => errors.push(format!("setting `contexts.{name}.key`: {reason}")),
        }
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) || name.is_empty() {
        errors.push(format!("context `{name}`: a name is letters, digits, `-` and `_`"));
    }
    ContextPlan { name: name.to_owned(), service, data: context.data, keys }
}

fn routes(
    routes: &[RouteSettings],
    contexts: &BTreeMap<String, ContextSettings>,
    errors: &mut Vec<String>,
) -> RouteTable {
    let mut seen = BTreeSet::new();
    let mut table = Vec::new();
    for RouteSettings { prefix, context } in routes {
        let trimmed = prefix.trim_end_matches('/');
        if !prefix.starts_with('/')
            || prefix.contains(['?', '#', '{', '*'])
            || normal(prefix) != prefix.as_str()
        {
            errors.push(format!("route `{prefix}`: a prefix is a plain path that begins with `/`"));
        } else if !seen.insert(trimmed.to_owned()) {
            errors.push(format!("route `{prefix}` stands there twice; leave one"));
        }
        match contexts.keys().position(|name| name == context) {
            Some(position) => table.push((trimmed.to_owned(), ContextId(position))),
            None => errors.push(format!(
                "route `{prefix}` names the context `{context}`, which does not exist; add [contexts.{context}]"
            )),
        }
    }
    RouteTable::new(table)
}

fn private(settings: &Settings, errors: &mut Vec<String>) -> PrivatePaths {
    let mut prefixes: Vec<String> = Vec::new();
    for prefix in &settings.private {
        let trimmed = prefix.trim_end_matches('/').to_owned();
        if !is_prefix(prefix) {
            errors.push(format!(
                "setting `private` holds `{prefix}`; a prefix is a plain path that begins with `/`, and not the root"
            ));
        } else if prefixes.contains(&trimmed) {
            errors.push(format!("setting `private` holds `{prefix}` twice; leave one"));
        } else {
            prefixes.push(trimmed);
        }
    }
    let private = PrivatePaths::new(prefixes);
    for RouteSettings { prefix, .. } in &settings.routes {
        if let Some(found) = private.find(prefix) {
            errors.push(format!(
                "route `{prefix}` lies under `{found}` in setting `private`, so nothing would ever take it"
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
    Limits {
        connect: duration("connect_ms", timeouts.connect_ms),
        header: duration("header_ms", timeouts.header_ms),
        total: (timeouts.total_ms > 0).then(|| Duration::from_millis(timeouts.total_ms)),
        canary_header: duration("canary_header_ms", timeouts.canary_header_ms),
        body_idle: duration("body_idle_ms", timeouts.body_idle_ms),
        client_header: duration("client_header_ms", timeouts.client_header_ms),
    }
}

fn fallback(settings: &Settings, errors: &mut Vec<String>) -> FallbackPlan {
    let mut statuses = Vec::new();
    for status in &settings.fallback.statuses {
        match StatusCode::from_u16(*status) {
            Ok(code) if code.is_server_error() => statuses.push(code),
            _ => errors
                .push(format!("setting `fallback.statuses` holds {status}; only 500 to 599 can fall back")),
        }
    }
    let hold = Duration::from_millis(settings.fallback.hold_ms);
    FallbackPlan { statuses, hold_bytes: settings.fallback.hold_bytes, hold }
}

/// An admin API that anybody can reach would let anybody move traffic.
fn check_listeners(settings: &Settings, errors: &mut Vec<String>) {
    if settings.workers > MOST_WORKERS {
        errors.push(format!(
            "setting `workers` is {}; at most {MOST_WORKERS}, and more than cores does not help",
            settings.workers
        ));
    }
    for (name, listen) in [("listen", &settings.listen), ("admin_listen", &settings.admin_listen)] {
        let Some(address) = first_address(listen) else {
            errors.push(format!(
                "setting `{name}`: `{listen}` is not an address to listen on; write it as 127.0.0.1:8080"
            ));
            continue;
        };
        let open = name == "admin_listen" && !address.ip().is_loopback();
        if open && settings.admin_token == Secret::default() {
            errors.push(format!(
                "setting `admin_listen`: {listen} can be reached from outside; set `admin_token`, or listen on 127.0.0.1"
            ));
        }
    }
}

fn first_address(listen: &str) -> Option<SocketAddr> {
    listen.to_socket_addrs().ok().and_then(|mut addresses| addresses.next())
}

#[cfg(test)]
mod tests;
