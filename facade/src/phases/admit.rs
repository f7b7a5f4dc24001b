//! Admit: refuses what two readers could read differently.
//!
//! Of HTTP/1 the bytes have been read by [`crate::strict`], which sees more than stands in a parsed head; here is what
//! concerns every version: host and target. A refused request closes its connection: what follows on it may be part
//! of the same trick.

use http::header::{HOST, HeaderMap, HeaderValue};
use http::uri::{Authority, Uri};
use http::{Method, StatusCode, Version, request};

use crate::answer::Refusal;
use crate::client::Client;
use crate::strict::grammar::is_plain_host;
use crate::strict::{Fault, http2};

pub(crate) fn admit(client: &Client, parts: &request::Parts) -> Result<(), Refusal> {
    match client.door.refusal(&parts.uri) {
        Some(refusal) => Err(refusal),
        None => check(parts),
    }
}

/// The same without a connection.
pub(crate) fn check(parts: &request::Parts) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        let detail = format!("this server does not serve {}", parts.method);
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, detail).closing());
    }
    let host = host(&parts.headers, parts.version)?;
    // HTTP/1 has been asked the same of its bytes.
    if parts.version == Version::HTTP_2 {
        http2::check(parts).map_err(Fault::refusal)?;
    }
    target(&parts.uri, &parts.method, host)
}

fn bad(detail: &'static str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, detail).closing()
}

/// Exactly one (RFC 9112 §3.2); HTTP/1.0 may have none.
fn host(headers: &HeaderMap, version: Version) -> Result<Option<&HeaderValue>, Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else {
        return if version == Version::HTTP_10 { Ok(None) } else { Err(bad("the header Host is missing")) };
    };
    if hosts.next().is_some() {
        return Err(bad("there is more than one header Host"));
    }
    if !is_plain_host(host.as_bytes()) {
        return Err(bad("the header Host is not host or host:port"));
    }
    Ok(Some(host))
}

/// A path, an absolute URL of the same host, or `*` with OPTIONS (RFC 9112 §3.2).
fn target(uri: &Uri, method: &Method, host: Option<&HeaderValue>) -> Result<(), Refusal> {
    if let Some(authority) = uri.authority() {
        return absolute(uri, authority, host);
    }
    match uri.path() {
        path if path.starts_with('/') => Ok(()),
        "*" if method == Method::OPTIONS => Ok(()),
        _ => Err(bad("the request target does not begin with a slash")),
    }
}

fn absolute(uri: &Uri, authority: &Authority, host: Option<&HeaderValue>) -> Result<(), Refusal> {
    if uri.scheme_str().is_none_or(|scheme| scheme != "http" && scheme != "https") {
        return Err(bad("the request target is not a path"));
    }
    if !is_plain_host(authority.as_str().as_bytes()) {
        return Err(bad("the request target's host is not host or host:port"));
    }
    match host {
        Some(host) if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            Err(bad("the request target names another host than the header Host"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn status(method: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check(&parts).map_or_else(|refusal| refusal.status().as_u16(), |()| 200)
    }

    #[test]
    fn host_stands_there_once() {
        assert_eq!(status("GET", "/", &[("host", "a")]), 200);
        assert_eq!(status("GET", "/", &[("host", "a/b")]), 400);
        assert_eq!(status("GET", "/", &[]), 400);
        assert_eq!(status("GET", "/", &[("host", "a"), ("host", "a")]), 400);
    }

    #[test]
    fn targets_are_paths_or_urls_of_the_same_host() {
        for (method, target, expected) in [
            ("GET", "/a?b", 200),
            ("GET", "http://shop/a", 200),
            ("GET", "http://SHOP/a", 200),
            ("GET", "http://other/a", 400),
            ("GET", "http://u@shop/a", 400),
            ("GET", "ftp://shop/a", 400),
            ("GET", "shop", 400),
            ("OPTIONS", "*", 200),
            ("GET", "*", 400),
            ("CONNECT", "shop:80", 501),
            ("TRACE", "/", 501),
        ] {
            assert_eq!(status(method, target, &[("host", "shop")]), expected, "{method} {target}");
        }
    }
}
