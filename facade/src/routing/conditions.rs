//! What a route says beside the path: host, methods, headers.
//!
//! Invariant: a condition of no words is none; every route without conditions is open to every request.

use http::header::{HeaderMap, HeaderName};
use http::{HeaderValue, Method, Uri, header};

/// Which hosts a route is for. The order is that of preference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// This name, in lower case, without port.
    Exact(String),
    /// Every name under this one, however deep. More labels come first.
    Under(std::cmp::Reverse<usize>, String),
    Any,
}

impl Host {
    /// Reads `shop.example.com`, `*.example.com`, or nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let refuse = || format!("`{text}` is no host; write a name without port, or `*.` and a name");
        let name = text.strip_prefix("*.").unwrap_or(text).to_ascii_lowercase();
        let is_address = name.starts_with('[') && name.ends_with(']');
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        match text {
            "" => Ok(Self::Any),
            _ if !is_address && !name.split('.').all(is_label) => Err(refuse()),
            _ if !text.starts_with("*.") => Ok(Self::Exact(name)),
            _ if is_address => Err(refuse()),
            _ => Ok(Self::Under(std::cmp::Reverse(name.split('.').count()), name)),
        }
    }

    /// The plain way to say whether it matches; the table is faster and must agree.
    #[cfg(test)]
    pub(crate) fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Under(_, name) => host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.')),
            Self::Any => true,
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Under(_, name) => write!(f, "*.{name}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// The host that a request names: the target's, else that of the header, without port and the dot at its end.
pub(crate) fn host_of<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> &'r str {
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = uri.authority().map(http::uri::Authority::as_str).or(named).unwrap_or_default();
    let end = match host.strip_prefix('[') {
        Some(rest) => rest.find(']').map_or(host.len(), |end| end + 2),
        None => host.find(':').unwrap_or(host.len()),
    };
    let name = host.get(..end).unwrap_or_default();
    name.strip_suffix('.').unwrap_or(name)
}

/// The methods that a route is for; none means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Methods(Vec<Method>);

impl Methods {
    /// Reads names of methods. GET stands for HEAD, too: one must not lead around a route of the other.
    pub(crate) fn parse(names: &[String]) -> Result<Self, String> {
        let (mut methods, mut wrong) = (Vec::new(), Vec::new());
        for name in names {
            let is_upper = !name.bytes().any(|byte| byte.is_ascii_lowercase());
            let Some(method) = name.parse::<Method>().ok().filter(|_| is_upper) else {
                wrong.push(format!("`{name}` is no method"));
                continue;
            };
            let also = (method == Method::GET).then_some(Method::HEAD);
            for method in also.into_iter().chain([method]) {
                if !methods.contains(&method) {
                    methods.push(method);
                }
            }
        }
        if !wrong.is_empty() {
            return Err(format!("{}; write it in capitals, as `GET`", wrong.join(", ")));
        }
        methods.sort_by(|left, right| left.as_str().cmp(right.as_str()));
        Ok(Self(methods))
    }

    pub(crate) fn holds(&self, method: &Method) -> bool {
        self.0.is_empty() || self.0.contains(method)
    }

    pub(crate) fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a method that both name; whoever names none is no match for one who does.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.is_all() == other.is_all()
            && (self.is_all() || self.0.iter().any(|method| other.0.contains(method)))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

/// What a header must be. It holds if one line of that name is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderCondition {
    pub(crate) name: HeaderName,
    pub(crate) wanted: Wanted,
}

/// What a header's value must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Anything,
    Equal(String),
    Beginning(String),
}

impl HeaderCondition {
    pub(crate) fn holds(&self, headers: &HeaderMap) -> bool {
        let is_so = |value: &HeaderValue| match &self.wanted {
            Wanted::Anything => true,
            Wanted::Equal(text) => value.as_bytes() == text.as_bytes(),
            Wanted::Beginning(text) => value.as_bytes().starts_with(text.as_bytes()),
        };
        headers.get_all(&self.name).iter().any(is_so)
    }
}

impl std::fmt::Display for HeaderCondition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.wanted {
            Wanted::Anything => write!(f, "{}", self.name),
            Wanted::Equal(text) => write!(f, "{}: {text}", self.name),
            Wanted::Beginning(text) => write!(f, "{}: {text}…", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_without_port_and_dot() {
        let host = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("host", text.parse().unwrap());
            host_of(&Uri::from_static("/"), &headers).to_owned()
        };
        assert_eq!(
            ["a.b:80", "a.b.", "a.b.:80", "[::1]:80", "[::1]"].map(host),
            ["a.b", "a.b", "a.b", "[::1]", "[::1]"]
        );
        assert_eq!(host_of(&Uri::from_static("http://a:1/x"), &HeaderMap::new()), "a");
    }

    #[test]
    fn what_is_no_host_and_no_method_is_refused() {
        for text in ["a:80", "a b", "*", "*.", "a.*.b", "a/b", "*.[::1]", "a..b", ".a"] {
            assert!(Host::parse(text).is_err(), "{text}");
        }
        for text in ["get", "", "A B"] {
            assert!(Methods::parse(&[text.to_owned()]).is_err(), "{text}");
        }
        assert_eq!(Methods::parse(&["GET".to_owned()]).unwrap().names(), ["GET", "HEAD"]);
    }
}
