//! Which requests belong together, and where they go.
//!
//! Invariant: these are the words as written; [`crate::plan::Plan`] checks them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{JwtRuleSettings, Priority, RateLimitSettings};

/// Requests by host, path, method and headers, and where they go: to a context, to an upstream, or, with neither, to
/// the monolith. Of all routes that match a request, the most specific wins: a named host before `*.name` before none;
/// then, segment by segment of the path, a text before a parameter before the end before a tail; then more header
/// conditions; then named methods. What no route matches goes to the monolith.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteSettings {
    /// What paths begin with, such as `/api/users`; `/` is every path. It matches whole segments: `/api/users` does not
    /// match `/api/users2`. A route has either this or `path`. Too short, and it takes what belongs elsewhere.
    pub prefix: String,
    /// The whole path with parameters, such as `/api/{version}/items/{id}`; `{id}` stands for one segment, and
    /// `{rest...}` at the end for all that follows, even nothing. A slash at the end of a request's path means nothing.
    pub path: String,
    /// Host that the request names, such as `shop.example.com`, or `*.example.com` for all names under it; without
    /// port. Empty for any host. Misspelt, and no request matches.
    pub host: String,
    /// Methods in capitals, such as `["GET", "POST"]`; GET stands for HEAD, too. Empty for all. One left out goes where
    /// the next best route says.
    pub methods: Vec<String>,
    /// Headers that the request must have, all of them.
    pub headers: Vec<HeaderSettings>,
    /// Name of the context, as in `contexts`. The facade does not start with another.
    pub context: String,
    /// Name of an upstream that answers whatever the flags say; not together with `context`.
    pub upstream: String,
    /// How many requests a client may send to this route; left out, there is no limit of its own.
    pub rate_limit: Option<RateLimitSettings>,
    /// The token that this route asks for; left out, it asks for none.
    pub jwt: Option<JwtRuleSettings>,
    /// What goes first when there is too much to do.
    pub priority: Priority,
}

/// A header that a request must have. Only its name: with whatever value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderSettings {
    /// Its name, in any case of letters.
    pub name: String,
    /// The value that it must have, to the letter; of several lines of that name, one must.
    pub equals: Option<String>,
    /// What its value must begin with; not together with `equals`.
    pub prefix: Option<String>,
}
