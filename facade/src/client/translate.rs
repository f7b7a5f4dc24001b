//! A request that came over HTTP/2, as HTTP/1.1 has it.
//!
//! Invariant: a request is told apart by nothing but its version afterwards; so every phase knows one shape only.

use http::header::{CONTENT_LENGTH, COOKIE, Entry, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::uri::Scheme;
use http::{Method, Request, Uri};
use http_body::Body;

use crate::client::websocket;

const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

pub(crate) fn to_http1<B: Body>(request: &mut Request<B>) {
    let has_unknown_length =
        !request.body().is_end_stream() && !request.headers().contains_key(CONTENT_LENGTH);
    if request.method() == Method::CONNECT {
        websocket::to_upgrade(request);
    }
    name_host(request);
    let headers = request.headers_mut();
    join_cookies(headers);
    if has_unknown_length {
        headers.insert(TRANSFER_ENCODING, CHUNKED);
    }
}

/// `:authority` becomes `Host` (RFC 9113 §8.3.1). One that stands there already stays, and must say the same.
fn name_host<B>(request: &mut Request<B>) {
    let Some(host) = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok())
    else {
        return;
    };
    match request.headers_mut().entry(HOST) {
        Entry::Vacant(entry) => {
            entry.insert(host);
            if !has_our_scheme(request.uri()) {
                return;
            }
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        }
        Entry::Occupied(_) => (),
    }
}

/// With any other the target stays as it is, to be refused: who reads it may be a gateway to something else.
fn has_our_scheme(uri: &Uri) -> bool {
    uri.scheme().is_none_or(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS)
}

/// A cookie may come in pieces; HTTP/1.1 knows one header of them (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (pieces.next(), pieces.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for piece in std::iter::once(second).chain(pieces) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(piece.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Empty, Full};

    use super::*;

    #[test]
    fn host_comes_from_the_authority_and_cookies_are_one() {
        let mut request = Request::get("https://shop:8443/a?b=1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("cookie", "c=3; d=4")
            .body(Empty::<bytes::Bytes>::new())
            .unwrap();
        to_http1(&mut request);
        assert_eq!(request.uri(), "/a?b=1");
        assert_eq!(request.headers()["host"], "shop:8443");
        let cookies: Vec<_> = request.headers().get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3; d=4"]);
        assert!(!request.headers().contains_key("transfer-encoding"));
    }

    #[test]
    fn a_host_beside_the_authority_stays_to_be_compared() {
        let mut request =
            Request::get("http://shop/").header("host", "other").body(Empty::<bytes::Bytes>::new()).unwrap();
        to_http1(&mut request);
        assert_eq!(
            (request.uri(), &request.headers()["host"]),
            (&Uri::from_static("http://shop/"), &"other".parse().unwrap())
        );
    }

    #[test]
    fn a_body_without_a_length_is_chunked() {
        let mut request = Request::post("http://shop/").body(Full::new(bytes::Bytes::from("a"))).unwrap();
        to_http1(&mut request);
        assert_eq!(request.headers()["transfer-encoding"], "chunked");
        request.headers_mut().remove("transfer-encoding");
        request.headers_mut().insert("content-length", HeaderValue::from_static("1"));
        to_http1(&mut request);
        assert!(!request.headers().contains_key("transfer-encoding"));
    }
}
