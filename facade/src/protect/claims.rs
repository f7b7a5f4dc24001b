//! What a checked token says of its bearer.
//!
//! Invariant: there are no claims without a signature that was checked.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// The claims of a token that was checked.
#[derive(Debug, Clone)]
pub(crate) struct Claims(pub(crate) Arc<Checked>);

/// A checked token as it is remembered.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) claims: Map<String, Value>,
    /// Ready for upstreams.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Unix time in seconds from which it is dead, leeway included.
    pub(crate) dead_at: u64,
}

impl Claims {
    /// The claim as text: a text, a number or a truth value. `/a/b` finds a claim inside another (RFC 6901).
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        match find(&self.0.claims, name)? {
            Value::String(text) => Some(Cow::Borrowed(text)),
            value @ (Value::Number(_) | Value::Bool(_)) => Some(Cow::Owned(value.to_string())),
            _ => None,
        }
    }

    /// Whether all of these scopes were granted (RFC 8693 §4.2, and `scp` as some issuers write it).
    pub(crate) fn has_scopes(&self, wanted: &[String]) -> bool {
        let has = |name: &str, scope: &str| match self.0.claims.get(name) {
            Some(Value::String(list)) => list.split(' ').any(|granted| granted == scope),
            Some(Value::Array(list)) => list.iter().any(|granted| granted == scope),
            _ => false,
        };
        wanted.iter().all(|scope| has("scope", scope) || has("scp", scope))
    }
}

pub(crate) fn find<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.strip_prefix('/')?.split_once('/')?;
    claims.get(first)?.pointer(&format!("/{rest}"))
}

/// A claim as a header; none where it cannot stand in one without meaning something else.
pub(crate) fn header(value: &Value) -> Option<HeaderValue> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(item).collect();
            items?.join(",")
        }
        Value::Null | Value::Object(_) => return None,
    };
    HeaderValue::try_from(text).ok()
}

/// An item with a comma would be two.
fn item(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.contains(','))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        let Value::Object(claims) = value else { panic!("{value}") };
        Claims(Arc::new(Checked { claims, headers: Vec::new(), dead_at: 0 }))
    }

    #[test]
    fn claims_are_found_by_name_and_by_pointer() {
        let claims =
            claims(json!({"sub": "ann", "n": 7, "realm": {"id": "r"}, "/odd/name": "o", "list": []}));
        for (name, text) in [
            ("sub", Some("ann")),
            ("n", Some("7")),
            ("/realm/id", Some("r")),
            ("/odd/name", Some("o")),
            ("list", None),
            ("x", None),
        ] {
            assert_eq!(claims.text(name).as_deref(), text, "{name}");
        }
    }

    #[test]
    fn every_scope_must_be_granted() {
        let wanted = |scopes: &[&str]| scopes.iter().map(|&scope| scope.to_owned()).collect::<Vec<_>>();
        let text = claims(json!({"scope": "read write"}));
        assert!(text.has_scopes(&wanted(&["read", "write"])) && !text.has_scopes(&wanted(&["read", "rea"])));
        assert!(claims(json!({"scp": ["read"]})).has_scopes(&wanted(&["read"])));
        assert!(!claims(json!({})).has_scopes(&wanted(&["read"])) && claims(json!({})).has_scopes(&[]));
    }

    #[test]
    fn a_header_says_what_the_claim_says_or_nothing() {
        assert_eq!(header(&json!("ann")).unwrap(), "ann");
        assert_eq!(header(&json!(["a", "b"])).unwrap(), "a,b");
        for value in [json!("a\r\nx: 1"), json!(["a,admin"]), json!([1]), json!({}), json!(null)] {
            assert_eq!(header(&value), None, "{value}");
        }
    }
}
