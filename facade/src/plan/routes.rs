//! The routes of the settings, checked and compiled.
//!
//! Invariant: no two routes of a table claim the same requests, but for those that their order tells apart.

use http::header::HeaderName;

use crate::plan::{ContextId, ContextPlan, Upstream, upstream_named};
use crate::routing::{Goal, HeaderCondition, Host, Methods, Pattern, RouteRule, RouteTable, Wanted};
use crate::settings::{HeaderSettings, RouteSettings, Settings};

/// The path of a route as it is written.
pub(crate) fn path_of(route: &RouteSettings) -> &str {
    if route.path.is_empty() { &route.prefix } else { &route.path }
}

/// How errors name a route: by its number in the file, from 1, and its path.
pub(super) fn name(index: usize, route: &RouteSettings) -> String {
    format!("route {} `{}`", index + 1, path_of(route))
}

pub(super) fn table(
    settings: &Settings,
    upstreams: &[Upstream],
    contexts: &[ContextPlan],
    errors: &mut Vec<String>,
) -> RouteTable {
    let mut rules: Vec<RouteRule> = Vec::new();
    for (index, route) in settings.routes.iter().enumerate() {
        let mut wrong = Vec::new();
        let goal = goal(route, settings, (upstreams, contexts), &mut wrong);
        let rule = rule(index, route, goal, &mut wrong);
        errors.extend(wrong.into_iter().map(|reason| format!("{}{reason}", name(index, route))));
        let Some(rule) = rule else { continue };
        match rules.iter().find(|other| other.conflicts(&rule)) {
            Some(other) if other.text == rule.text => {
                errors.push(format!(
                    "{} stands there twice for the same requests; leave one",
                    name(index, route)
                ));
            }
            Some(other) => errors.push(format!(
                "{} claims the same requests as route {} `{}`; leave one, or tell them apart",
                name(index, route),
                other.index + 1,
                other.text
            )),
            None => rules.push(rule),
        }
    }
    RouteTable::new(rules)
}

fn rule(index: usize, route: &RouteSettings, goal: Goal, wrong: &mut Vec<String>) -> Option<RouteRule> {
    let pattern = match (route.prefix.as_str(), route.path.as_str()) {
        ("", "") => Err(" has neither `prefix` nor `path`; say which paths it is for".to_owned()),
        (prefix, "") => Pattern::prefix(prefix).map_err(|reason| format!(", `prefix`: {reason}")),
        ("", path) => Pattern::template(path).map_err(|reason| format!(", `path`: {reason}")),
        _ => Err(", `path`: a route has `prefix` or `path`, not both".to_owned()),
    };
    let pattern = pattern.map_err(|reason| wrong.push(reason));
    let host = Host::parse(&route.host).map_err(|reason| wrong.push(format!(", `host`: {reason}")));
    let methods =
        Methods::parse(&route.methods).map_err(|reason| wrong.push(format!(", `methods`: {reason}")));
    let (headers, refused): (Vec<_>, Vec<_>) = route.headers.iter().map(condition).partition(Result::is_ok);
    let refused: Vec<_> = refused.into_iter().filter_map(Result::err).collect();
    if !refused.is_empty() {
        wrong.push(format!(", `headers`: {}", refused.join("; ")));
    }
    Some(RouteRule {
        index,
        text: path_of(route).to_owned(),
        is_prefix: route.path.is_empty(),
        host: host.ok()?,
        pattern: pattern.ok()?,
        methods: methods.ok()?,
        headers: headers.into_iter().collect::<Result<_, _>>().ok().filter(|_| refused.is_empty())?,
        goal,
    })
}

fn condition(header: &HeaderSettings) -> Result<HeaderCondition, String> {
    let HeaderSettings { name, equals, prefix } = header;
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header name"))?;
    let wanted = match (equals, prefix) {
        (None, None) => Wanted::Anything,
        (Some(text), None) => Wanted::Equal(text.clone()),
        (None, Some(text)) => Wanted::Beginning(text.clone()),
        _ => return Err(format!("{name} has `equals` or `prefix`, not both")),
    };
    Ok(HeaderCondition { name, wanted })
}

fn goal(
    route: &RouteSettings,
    settings: &Settings,
    (upstreams, contexts): (&[Upstream], &[ContextPlan]),
    wrong: &mut Vec<String>,
) -> Goal {
    let RouteSettings { context, upstream, .. } = route;
    let monolith = Goal::Upstream(upstream_named(upstreams, &settings.monolith).unwrap_or_default());
    match (context.as_str(), upstream.as_str()) {
        ("", "") => monolith,
        ("", name) => match upstream_named(upstreams, name) {
            Some(id) => Goal::Upstream(id),
            None => {
                wrong.push(format!(
                    ", `upstream`: the upstream `{name}` does not exist; add [upstreams.{name}] with its url"
                ));
                monolith
            }
        },
        (name, "") => match contexts.iter().position(|found| found.name == name && !found.is_retired) {
            Some(position) => Goal::Context(ContextId(position)),
            None => {
                wrong
                    .push(format!(", `context`: the context `{name}` does not exist; add [contexts.{name}]"));
                monolith
            }
        },
        _ => {
            wrong.push(", `upstream`: a route names a context or an upstream, not both".to_owned());
            monolith
        }
    }
}
