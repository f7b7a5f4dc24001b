//! Admit: refuses what two readers could read differently.
//!
//! hyper's parser is strict about bytes but lets some shapes through; those are refused here. A refused request
//! closes its connection: what follows on it may be part of the same trick.

use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::uri::{Authority, Uri};
use http::{Method, StatusCode, Version, request};

use crate::answer::Refusal;

pub(crate) fn admit(parts: &request::Parts) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        let detail = format!("this server does not serve {}", parts.method);
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, detail).closing());
    }
    let host = host(&parts.headers, parts.version)?;
    target(&parts.uri, &parts.method, host)?;
    framing(&parts.headers)
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

/// A name or an address, and perhaps a port: no user, no path, no list.
fn is_plain_host(host: &[u8]) -> bool {
    let (name, port) = match host.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            let (address, port) = rest.split_at(end);
            if !address.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte)) {
                return false;
            }
            (address, port.get(1..).unwrap_or_default())
        }
        None => host.split_at(host.iter().position(|byte| *byte == b':').unwrap_or(host.len())),
    };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(byte);
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    !name.is_empty() && name.iter().all(is_name) && is_port
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

/// One way to tell where the body ends (RFC 9112 §6).
fn framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(bad("there is more than one header Content-Length"));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if length.is_some() {
        return Err(bad("there is a Content-Length beside a Transfer-Encoding"));
    }
    if codings.next().is_some() {
        return Err(bad("there is more than one header Transfer-Encoding"));
    }
    if !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
        let detail = "the only transfer coding this server knows is chunked";
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, detail).closing());
    }
    Ok(())
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
        admit(&parts).map_or_else(|refusal| refusal.status().as_u16(), |()| 200)
    }

    #[test]
    fn host_stands_there_once_and_is_plain() {
        for host in ["shop", "shop:80", "shop.example.:8080", "127.0.0.1:1", "[::1]", "[::1]:80", "a_b"] {
            assert_eq!(status("GET", "/", &[("host", host)]), 200, "{host}");
        }
        for host in
            ["", "a/b", "u@a", "a b", "a,b", "a:b", ":80", "a:80:80", "[::1", "[::1]x", "a:999999", "a?b"]
        {
            assert_eq!(status("GET", "/", &[("host", host)]), 400, "{host}");
        }
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

    #[test]
    fn a_body_is_framed_in_one_way() {
        let post = |headers: &[(&str, &str)]| status("POST", "/", &[&[("host", "a")], headers].concat());
        assert_eq!(post(&[("content-length", "3")]), 200);
        assert_eq!(post(&[("transfer-encoding", "Chunked")]), 200);
        assert_eq!(post(&[("content-length", "3"), ("content-length", "3")]), 400);
        assert_eq!(post(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]), 400);
        assert_eq!(post(&[("content-length", "3"), ("transfer-encoding", "chunked")]), 400);
        assert_eq!(post(&[("transfer-encoding", "gzip, chunked")]), 501);
    }
}
