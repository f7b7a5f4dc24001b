//! Paths that are no client's business, such as those on which monolith and services speak to each other.
//!
//! Invariant: a path that an upstream could read as a private one is private: whether it decodes once or again,
//! resolves dots or not, and whatever it takes for a slash or the end of a segment.

use crate::routing::{claims, decode, is_plain, normal, resolve};

/// Upstreams decode once; one that hands the path on may do so again.
const MOST_DECODINGS: usize = 4;

/// Private prefixes, without a slash at the end.
#[derive(Debug, Default)]
pub(crate) struct PrivatePaths {
    prefixes: Vec<String>,
}

impl PrivatePaths {
    /// Takes prefixes that [`is_prefix`] accepts.
    pub(crate) fn new(prefixes: Vec<String>) -> Self {
        Self { prefixes }
    }

    /// The prefix that claims a path as the client wrote it, in any reading of it.
    pub(crate) fn find(&self, path: &str) -> Option<&str> {
        if self.prefixes.is_empty() {
            return None;
        }
        if is_plain(path) {
            return self.claiming(path);
        }
        let mut reading = path.to_owned();
        for _ in 0..=MOST_DECODINGS {
            let plain = plain(&reading);
            let found = self.claiming(&plain).or_else(|| self.claiming(&resolve(&plain)));
            if found.is_some() {
                return found;
            }
            reading = decode(&reading, |byte| byte.is_ascii());
        }
        None
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.prefixes.iter().map(String::as_str)
    }

    fn claiming(&self, path: &str) -> Option<&str> {
        self.iter().find(|prefix| claims(prefix, path))
    }
}

/// Whether every reading of a prefix is the prefix itself, and it does not claim everything.
pub(crate) fn is_prefix(prefix: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()+,=:@".contains(&byte);
    prefix.starts_with('/') && prefix != "/" && prefix.bytes().all(is_plain) && normal(prefix) == prefix
}

/// Backslashes as slashes, slashes single, segments without parameters and without what begins a query once it is
/// decoded, or is cut off by who trims; dots stay.
fn plain(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    for segment in path.split(['/', '\\']).filter(|segment| !segment.is_empty()) {
        plain.push('/');
        let name = segment.split([';', '?', '#']).next().unwrap_or_default();
        plain.push_str(
            name.trim_matches(|letter: char| letter.is_ascii_whitespace() || letter.is_ascii_control()),
        );
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_leads_around_a_private_prefix() {
        let private = PrivatePaths::new(vec!["/replica".to_owned(), "/a/internal".to_owned()]);
        for path in [
            "/replica",
            "/replica/",
            "/replica/users/7",
            "//replica",
            "/%72eplica",
            "/%2572eplica",
            "/x/../replica",
            "/x/%2e%2E/replica",
            "/x%2F..%2freplica",
            "/x/%252e%252e/replica",
            "/./replica",
            "/replica%2Fusers",
            "/replica/../x",
            "/x/../replica/%2e%2e/y",
            "/replica;v=1/users",
            "/replica%3Bv",
            "/x/..;/replica",
            "\\replica",
            "/%5Creplica",
            "/a//internal/x",
            "/a%2finternal",
            "/replica%3Fx",
            "/replica%23",
            "/replica%20",
            "/replica%0a/users",
            "/x/..%2f%09replica",
        ] {
            assert!(private.find(path).is_some(), "{path}");
        }
        for path in ["/", "*", "", "/replicas", "/x/replica", "/a/internals", "/a", "/%", "/replic%", "/a%é"]
        {
            assert_eq!(private.find(path), None, "{path}");
        }
        assert_eq!(PrivatePaths::default().find("/replica"), None);
    }

    #[test]
    fn a_prefix_has_one_reading() {
        for prefix in ["/replica", "/a/b-c/", "/a.b"] {
            assert!(is_prefix(prefix), "{prefix}");
        }
        for prefix in ["", "/", "//", "a", "/a//b", "/a/../b", "/%61", "/a;b", "/a?b", "/a*", "/{a}", "/é"] {
            assert!(!is_prefix(prefix), "{prefix}");
        }
    }
}
