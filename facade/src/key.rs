//! Where the sticky key of a request is found.
//!
//! Invariant: the same request gives the same key in every facade with the same settings, after every restart.

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;
use http::header::{COOKIE, HeaderName};

use crate::protect::claims::Claims;
use crate::routing::Template;
use crate::settings::KeySource;

/// One source, checked.
#[derive(Debug, Clone)]
pub(crate) enum KeyRule {
    PathSegment(String, Template),
    Header(HeaderName),
    Cookie(String),
    JwtClaim(String),
    ClientAddress,
}

impl KeyRule {
    /// Checks a source; `None` where it is switched off.
    pub(crate) fn parse(source: &KeySource) -> Result<Option<Self>, String> {
        Ok(match source {
            KeySource::PathSegment(text) => Some(Self::PathSegment(text.clone(), Template::parse(text)?)),
            KeySource::Header(name) => Some(Self::Header(
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header name"))?,
            )),
            KeySource::Cookie(name) if name.is_empty() || name.contains(['=', ';', ' ']) => {
                return Err(format!("`{name}` is no cookie name"));
            }
            KeySource::Cookie(name) => Some(Self::Cookie(name.clone())),
            KeySource::JwtClaim(name) if name.is_empty() => return Err("a claim has a name".to_owned()),
            KeySource::JwtClaim(name) => Some(Self::JwtClaim(name.clone())),
            KeySource::ClientAddress(on) => on.then_some(Self::ClientAddress),
        })
    }

    fn find<'r>(&self, request: &Keyed<'r>) -> Option<Cow<'r, [u8]>> {
        let key = match self {
            Self::PathSegment(_, template) => template.key(request.path).map(str::as_bytes),
            Self::Header(name) => request.headers.get(name).map(|value| value.as_bytes()),
            Self::Cookie(name) => cookie(request.headers, name.as_bytes()),
            Self::JwtClaim(name) => return claim(request.claims?, name),
            Self::ClientAddress => Some(request.client),
        };
        key.filter(|key| !key.is_empty()).map(Cow::Borrowed)
    }
}

impl fmt::Display for KeyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathSegment(text, _) => write!(f, "path segment of {text}"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::JwtClaim(name) => write!(f, "claim {name}"),
            Self::ClientAddress => f.write_str("client address"),
        }
    }
}

/// What of a request a key can be found in.
#[derive(Clone, Copy)]
pub(crate) struct Keyed<'r> {
    /// Path in normal form.
    pub(crate) path: &'r str,
    pub(crate) headers: &'r HeaderMap,
    /// Address of the client's connection as text.
    pub(crate) client: &'r [u8],
    /// What the request's token says, once it was checked.
    pub(crate) claims: Option<&'r Claims>,
}

/// The first key that any rule finds, and that rule.
pub(crate) fn find<'r, 'k>(
    rules: &'k [KeyRule],
    request: &Keyed<'r>,
) -> Option<(Cow<'r, [u8]>, &'k KeyRule)> {
    rules.iter().find_map(|rule| rule.find(request).map(|key| (key, rule)))
}

fn claim<'r>(claims: &'r Claims, name: &str) -> Option<Cow<'r, [u8]>> {
    let key = match claims.text(name)? {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    Some(key).filter(|key| !key.is_empty())
}

pub(crate) fn cookie<'h>(headers: &'h HeaderMap, name: &[u8]) -> Option<&'h [u8]> {
    headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';')).find_map(
        |pair| {
            let (found, value) = pair.trim_ascii_start().split_at_checked(name.len())?;
            (found == name).then(|| value.strip_prefix(b"=")).flatten().map(<[u8]>::trim_ascii_end)
        },
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::protect::claims::Checked;

    fn rules(sources: &[KeySource]) -> Vec<KeyRule> {
        sources.iter().filter_map(|source| KeyRule::parse(source).unwrap()).collect()
    }

    #[test]
    fn the_first_source_that_is_there_counts() {
        let rules = rules(&[
            KeySource::PathSegment("/users/{key}".to_owned()),
            KeySource::Header("x-user-id".to_owned()),
            KeySource::Cookie("session".to_owned()),
            KeySource::ClientAddress(true),
        ]);
        let mut headers = HeaderMap::new();
        let found = |path, headers: &HeaderMap| {
            find(&rules, &Keyed { path, headers, client: b"192.0.2.7", claims: None })
                .map(|(key, _)| key.to_vec())
        };
        assert_eq!(found("/users", &headers).unwrap(), b"192.0.2.7");
        headers.insert("cookie", "a=1; session=abc ; b=2".parse().unwrap());
        assert_eq!(found("/users", &headers).unwrap(), b"abc");
        headers.insert("x-user-id", "42".parse().unwrap());
        assert_eq!(found("/users", &headers).unwrap(), b"42");
        assert_eq!(found("/users/7", &headers).unwrap(), b"7");
    }

    #[test]
    fn a_claim_is_a_key_once_the_token_was_checked() {
        let rules = rules(&[KeySource::JwtClaim("/user/id".to_owned()), KeySource::ClientAddress(true)]);
        let claims = serde_json::json!({ "user": { "id": 42 } }).as_object().unwrap().clone();
        let claims = Claims(Arc::new(Checked { claims, headers: Vec::new(), dead_at: 0 }));
        let headers = HeaderMap::new();
        let found = |claims| {
            let keyed = Keyed { path: "/", headers: &headers, client: b"192.0.2.7", claims };
            find(&rules, &keyed).map(|(key, rule)| (key.into_owned(), rule.to_string())).unwrap()
        };
        assert_eq!(found(Some(&claims)), (b"42".to_vec(), "claim /user/id".to_owned()));
        assert_eq!(found(None).1, "client address");
    }

    #[test]
    fn a_cookie_whose_name_only_begins_alike_is_not_taken() {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", "sessionid=1; xsession=2".parse().unwrap());
        assert_eq!(cookie(&headers, b"session"), None);
    }

    #[test]
    fn a_wrong_source_is_named() {
        assert!(KeyRule::parse(&KeySource::Header("x user".to_owned())).unwrap_err().contains("x user"));
        assert!(KeyRule::parse(&KeySource::Cookie("a=b".to_owned())).unwrap_err().contains("a=b"));
        assert!(KeyRule::parse(&KeySource::ClientAddress(false)).unwrap().is_none());
    }
}
