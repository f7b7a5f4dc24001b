//! From a path to the context it belongs to, and from a path to the sticky key in it.
//!
//! Invariant: a path is matched in the form in which the upstream would understand it, so that no other
//! spelling of a path leads around its context.

use std::borrow::Cow;

use crate::plan::ContextId;

/// Routes, longest prefix first.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    /// Prefix, context, and place in the settings.
    routes: Vec<(String, ContextId, usize)>,
}

impl RouteTable {
    /// Takes prefixes without a slash at the end; the root is the empty prefix.
    pub(crate) fn new(mut routes: Vec<(String, ContextId, usize)>) -> Self {
        routes.sort_by(|(left, ..), (right, ..)| right.len().cmp(&left.len()).then_with(|| left.cmp(right)));
        Self { routes }
    }

    /// The context of a path in normal form.
    #[cfg(test)]
    pub(crate) fn find(&self, path: &str) -> Option<ContextId> {
        self.route(path).map(|(_, context, _)| context)
    }

    /// The prefix that claims a path in normal form, and its context.
    pub(crate) fn route(&self, path: &str) -> Option<(&str, ContextId, usize)> {
        self.routes
            .iter()
            .find(|(prefix, ..)| claims(prefix, path))
            .map(|(prefix, context, index)| (prefix.as_str(), *context, *index))
    }

    /// Prefixes and contexts in the order in which they are tried.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, ContextId)> {
        self.routes.iter().map(|(prefix, context, _)| (prefix.as_str(), *context))
    }
}

/// Whether a path begins with a prefix that has no slash at its end, and goes on with a new segment.
pub(crate) fn claims(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The path as an upstream understands it: unreserved characters decoded, `.` and `..` resolved, slashes single
/// (RFC 3986 §6.2.2). Only for matching: what is forwarded is what the client wrote.
pub(crate) fn normal(path: &str) -> Cow<'_, str> {
    let mut previous = 0;
    let plain = path.bytes().all(|byte| {
        let odd = byte == b'%' || (previous == b'/' && (byte == b'/' || byte == b'.'));
        previous = byte;
        !odd
    });
    if plain { Cow::Borrowed(path) } else { Cow::Owned(resolve(&decode_unreserved(path))) }
}

fn decode_unreserved(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte)) {
            Some(byte) => {
                decoded.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push('%');
                rest = after;
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

/// `.` and `..` resolved, slashes single.
pub(crate) fn resolve(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let slash = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    format!("/{}{slash}", segments.join("/"))
}

/// A path with `{key}` in one segment; other segments in braces match anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any,
    Key,
}

impl Template {
    /// Reads `/api/v1/users/{key}`; the error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("path template `{text}` must begin with `/`"));
        };
        let segments: Vec<Segment> = rest.split('/').map(segment).collect();
        match segments.iter().filter(|segment| **segment == Segment::Key).count() {
            1 => Ok(Self { segments }),
            _ => Err(format!("path template `{text}` must hold `{{key}}` once")),
        }
    }

    /// The key's segment of a path in normal form, if the path begins like the template.
    pub(crate) fn key<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut found = None;
        let mut parts = path.strip_prefix('/')?.split('/');
        for segment in &self.segments {
            let part = parts.next()?;
            match segment {
                Segment::Literal(literal) if literal != part => return None,
                Segment::Literal(_) | Segment::Any => {}
                Segment::Key => found = Some(part).filter(|part| !part.is_empty()),
            }
        }
        found
    }
}

fn segment(text: &str) -> Segment {
    match text {
        "{key}" => Segment::Key,
        _ if text.starts_with('{') && text.ends_with('}') => Segment::Any,
        _ => Segment::Literal(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_on_a_segment_boundary_wins() {
        let table = RouteTable::new(vec![
            ("/api".to_owned(), ContextId(0), 0),
            ("/api/users".to_owned(), ContextId(1), 1),
        ]);
        assert_eq!(table.find("/api/users"), Some(ContextId(1)));
        assert_eq!(table.find("/api/users/7"), Some(ContextId(1)));
        assert_eq!(table.find("/api/users2"), Some(ContextId(0)));
        assert_eq!(table.find("/apis"), None);
    }

    #[test]
    fn the_empty_prefix_claims_everything() {
        let table = RouteTable::new(vec![(String::new(), ContextId(0), 0)]);
        assert_eq!((table.find("/"), table.find("/x/y")), (Some(ContextId(0)), Some(ContextId(0))));
    }

    #[test]
    fn every_spelling_of_a_path_has_one_normal_form() {
        for spelling in
            ["/api/users/7", "/api/%75sers/7", "//api/./users/7", "/x/../api/users/%37", "/api//users/7"]
        {
            assert_eq!(normal(spelling), "/api/users/7", "{spelling}");
        }
        assert_eq!(normal("/a%2Fb"), "/a%2Fb");
        assert_eq!(normal("/a%2"), "/a%2");
        assert_eq!(normal("/../.."), "/");
        assert_eq!(normal("/a%é/"), "/a%é/");
    }

    #[test]
    fn a_template_finds_its_key_and_nothing_else() {
        let template = Template::parse("/api/{version}/users/{key}").unwrap();
        assert_eq!(template.key("/api/v1/users/42"), Some("42"));
        assert_eq!(template.key("/api/v1/users/42/orders"), Some("42"));
        assert_eq!(template.key("/api/v1/users"), None);
        assert_eq!(template.key("/api/v1/users/"), None);
        assert_eq!(template.key("/api/v1/orders/42"), None);
        assert!(Template::parse("/users").is_err() && Template::parse("users/{key}").is_err());
    }
}
