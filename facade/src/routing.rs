//! From a request to its route: by host, path, method and headers.
//!
//! The table has one order, the better match first, and the first route that matches is the one:
//! 1. host: a name, then `*.name` (more labels first), then any;
//! 2. path, segment by segment: a literal, then a parameter, then the end, then a tail; so the longer prefix first;
//! 3. more header conditions first;
//! 4. named methods, then any;
//! 5. the order of the file.
//!
//! Invariant: a path is matched in the form in which the upstream would understand it, so that no other
//! spelling of a path leads around its route.

mod conditions;
mod path;
mod pattern;
mod template;
mod tree;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;

use http::Method;
use http::header::HeaderMap;

use crate::plan::{ContextId, UpstreamId};
use tree::Tree;

pub(crate) use conditions::{HeaderCondition, Host, Methods, Wanted, host_of};
pub(crate) use path::{claims, decode, is_plain, normal, readings, resolve};
pub(crate) use pattern::Pattern;
pub(crate) use template::Template;

/// One route, checked.
#[derive(Debug, Clone)]
pub(crate) struct RouteRule {
    /// Its place among the routes of the settings.
    pub(crate) index: usize,
    /// The path as written.
    pub(crate) text: String,
    /// Whether it was written as a prefix.
    pub(crate) is_prefix: bool,
    pub(crate) host: Host,
    pub(crate) pattern: Pattern,
    pub(crate) methods: Methods,
    pub(crate) headers: Vec<HeaderCondition>,
    pub(crate) goal: Goal,
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// To either side of a context.
    Context(ContextId),
    /// To this upstream and no other.
    Upstream(UpstreamId),
}

/// What of a request a route is found by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'r> {
    /// Without port.
    pub(crate) host: &'r str,
    pub(crate) method: &'r Method,
    pub(crate) headers: &'r HeaderMap,
}

impl RouteRule {
    /// Whether it is for requests like this one, path and host aside.
    fn is_for(&self, asked: &Asked<'_>) -> bool {
        self.methods.holds(asked.method)
            && self.headers.iter().all(|condition| condition.holds(asked.headers))
    }

    /// Whether some request matches both, and nothing but their order in the file says which is the better match.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        let has = |rule: &Self, condition| rule.headers.contains(condition);
        self.host == other.host
            && self.pattern == other.pattern
            && self.headers.len() == other.headers.len()
            && self.headers.iter().all(|condition| has(other, condition))
            && self.methods.meets(&other.methods)
    }
}

/// All routes, the better match first.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    rules: Vec<RouteRule>,
    exact: HashMap<Box<str>, Tree>,
    under: HashMap<Box<str>, Tree>,
    any: Tree,
}

impl RouteTable {
    pub(crate) fn new(mut rules: Vec<RouteRule>) -> Self {
        rules.sort_by(|left, right| order(left).cmp(&order(right)));
        let mut table = Self::default();
        for (place, rule) in rules.iter().enumerate() {
            let tree = match &rule.host {
                Host::Exact(name) => table.exact.entry(name.as_str().into()).or_default(),
                Host::Under(_, name) => table.under.entry(name.as_str().into()).or_default(),
                Host::Any => &mut table.any,
            };
            tree.insert(&rule.pattern, place);
        }
        table.rules = rules;
        table
    }

    /// The route of a request whose path is in normal form.
    pub(crate) fn find(&self, path: &str, asked: &Asked<'_>) -> Option<&RouteRule> {
        let rest = path.strip_prefix('/')?;
        let is_for = |place: usize| self.rules.get(place).is_some_and(|rule| rule.is_for(asked));
        let look = |tree: &Tree| tree.find(rest, &is_for);
        let has_hosts = !self.exact.is_empty() || !self.under.is_empty();
        let of_host = if has_hosts { self.of_host(asked.host, look) } else { None };
        let place = of_host.or_else(|| look(&self.any))?;
        self.rules.get(place)
    }

    /// The route of a place among those of the settings.
    pub(crate) fn of_index(&self, index: usize) -> Option<&RouteRule> {
        self.rules.iter().find(|rule| rule.index == index)
    }

    /// Routes in the order in which they are tried.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &RouteRule> {
        self.rules.iter()
    }

    /// What `look` finds under a host's name, or under the closest of the names that it stands under.
    fn of_host(&self, host: &str, look: impl Fn(&Tree) -> Option<usize>) -> Option<usize> {
        let host = match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(host.to_ascii_lowercase()),
            false => Cow::Borrowed(host),
        };
        let mut parents = host.match_indices('.').filter_map(|(dot, _)| self.under.get(host.get(dot + 1..)?));
        self.exact.get(&*host).and_then(&look).or_else(|| parents.find_map(&look))
    }
}

fn order(rule: &RouteRule) -> (&Host, &Pattern, Reverse<usize>, bool, usize) {
    (&rule.host, &rule.pattern, Reverse(rule.headers.len()), rule.methods.is_all(), rule.index)
}

#[cfg(test)]
mod tests;
