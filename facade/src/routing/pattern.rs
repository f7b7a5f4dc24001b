//! What a route says of the path: a prefix, or a template with parameters.
//!
//! Invariant: a prefix is a template that ends in a tail; there is one kind of pattern and one order.

use std::cmp::Ordering;

use crate::routing::path::normal;

/// A route's path, segment by segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub(crate) segments: Vec<Segment>,
    /// Whether more segments may follow, none included.
    pub(crate) has_tail: bool,
}

/// One segment. The order is that of preference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Segment {
    Literal(Box<str>),
    /// One segment, whatever it is.
    Parameter,
}

impl Pattern {
    /// Reads `/api/users`, which also matches everything under it.
    pub(crate) fn prefix(text: &str) -> Result<Self, String> {
        let is_plain = text.starts_with('/') && !text.contains(['?', '#', '{', '}', '*', '\\']);
        if !is_plain || normal(text) != text {
            return Err("a prefix is a plain path that begins with `/`".to_owned());
        }
        let segments = segments(text).map(|part| Segment::Literal(part.into())).collect();
        Ok(Self { segments, has_tail: true })
    }

    /// Reads `/api/{version}/items/{id}` or `/files/{rest...}`, which match whole paths.
    pub(crate) fn template(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') || text.contains(['?', '#', '*', '\\']) || normal(text) != text {
            return Err("a path is plain, begins with `/`, and has parameters as `{name}`".to_owned());
        }
        let (mut pattern, mut names) = (Self { segments: Vec::new(), has_tail: false }, Vec::new());
        for part in segments(text) {
            if pattern.has_tail {
                return Err(
                    "what is like `{rest...}` takes all the rest, so nothing may follow it".to_owned()
                );
            }
            let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else {
                if part.contains(['{', '}']) {
                    return Err(format!("in `{part}`, a parameter must be the whole segment"));
                }
                pattern.segments.push(Segment::Literal(part.into()));
                continue;
            };
            let tail = name.strip_suffix("...");
            let name = tail.unwrap_or(name);
            let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !is_name || names.contains(&name) {
                return Err(format!("`{part}`: a parameter's name is letters, digits and `_`, each once"));
            }
            names.push(name);
            match tail {
                Some(_) => pattern.has_tail = true,
                None => pattern.segments.push(Segment::Parameter),
            }
        }
        Ok(pattern)
    }

    /// The plain way to say whether it matches a path in normal form; the table is faster and must agree.
    #[cfg(test)]
    pub(crate) fn matches(&self, path: &str) -> bool {
        let parts: Vec<&str> = segments(path).collect();
        let is_long_enough = match self.has_tail {
            true => parts.len() >= self.segments.len(),
            false => parts.len() == self.segments.len(),
        };
        is_long_enough
            && self.segments.iter().zip(parts).all(|(segment, part)| match segment {
                Segment::Literal(literal) => **literal == *part,
                Segment::Parameter => true,
            })
    }
}

/// The better match first: segment by segment, a literal before a parameter before the end before a tail. So of two
/// prefixes of one path, the longer comes first.
impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        let both = self.segments.iter().zip(&other.segments);
        let first = both.map(|(left, right)| left.cmp(right)).find(|order| order.is_ne());
        first.unwrap_or_else(|| {
            let length = self.segments.len().cmp(&other.segments.len());
            match length {
                Ordering::Equal => self.has_tail.cmp(&other.has_tail),
                // One ends where the other goes on; a segment is preferred to that.
                length => length.reverse(),
            }
        })
    }
}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The segments of a path in normal form; a slash at its end means nothing.
pub(crate) fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_or_refused_with_the_reason() {
        let template = Pattern::template("/api/{version}/items/{id}/").unwrap();
        assert_eq!((template.segments.len(), template.has_tail), (4, false));
        assert_eq!(Pattern::template("/files/{rest...}").unwrap(), Pattern::prefix("/files/").unwrap());
        for text in [
            "",
            "a",
            "/a/{b",
            "/x{a}",
            "/{}",
            "/{a}/{a}",
            "/{r...}/x",
            "/a//b",
            "/%61",
            "/{a-b}",
            "/a;b",
            "/*",
        ] {
            assert!(Pattern::template(text).is_err(), "{text}");
        }
        for text in ["", "a", "/a/{b}", "/a//b", "/../a", "/a?b", "/a*", "/a;b"] {
            assert!(Pattern::prefix(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_better_match_comes_first() {
        let mut sorted = ["/{a...}", "/{a}", "/{a}/b", "/a/{r...}", "/a", "/a/b/{r...}", "/a/{b}"]
            .map(|text| (Pattern::template(text).unwrap(), text));
        sorted.sort();
        assert_eq!(
            sorted.map(|(_, text)| text),
            ["/a/b/{r...}", "/a/{b}", "/a", "/a/{r...}", "/{a}/b", "/{a}", "/{a...}"]
        );
    }
}
