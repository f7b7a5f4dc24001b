//! A request on its way to an upstream, and the copy by which it can be sent again.
//!
//! Invariant: a request with a body has no copy: what was read of a body is gone.

use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version, request};

use crate::body::RequestBody;
use crate::client::expect;

/// Bytes that most requests' heads take.
const USUAL_BYTES: usize = 768;

/// A request as an upstream gets it. Its head goes from phase to phase in a box: it is large.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) parts: Box<request::Parts>,
    pub(crate) body: RequestBody,
}

impl Outgoing {
    pub(crate) fn into_request(self) -> Request<RequestBody> {
        let mut request = Request::from_parts(*self.parts, self.body);
        expect::listen(&mut request);
        request
    }
}

impl From<Request<RequestBody>> for Outgoing {
    fn from(request: Request<RequestBody>) -> Self {
        let (parts, body) = request.into_parts();
        Self { parts: Box::new(parts), body }
    }
}

/// A request without a body, kept so that it can be sent again. As text, because few ever are: to copy the header map
/// with all its shared values costs several times as much.
#[derive(Debug)]
pub(crate) struct Spare {
    method: Method,
    /// The target, then the headers, a line for each: no name has a colon in it, and no value an end of line.
    text: Vec<u8>,
}

impl Spare {
    /// None of a request that has a body, or that may not be repeated. Its target has to be in origin form.
    pub(crate) fn of(request: &Outgoing) -> Option<Self> {
        let Outgoing { parts, body: RequestBody::Empty } = request else { return None };
        if !parts.method.is_safe() {
            return None;
        }
        let mut text = Vec::with_capacity(USUAL_BYTES);
        text.extend_from_slice(parts.uri.path_and_query().map_or("/", PathAndQuery::as_str).as_bytes());
        for (name, value) in &parts.headers {
            text.push(b'\n');
            text.extend_from_slice(name.as_str().as_bytes());
            text.push(b':');
            text.extend_from_slice(value.as_bytes());
        }
        Some(Self { method: parts.method.clone(), text })
    }

    pub(crate) fn outgoing(&self) -> Outgoing {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = self.method.clone();
        let mut lines = self.text.split(|byte| *byte == b'\n');
        *request.uri_mut() = lines.next().and_then(|target| Uri::try_from(target).ok()).unwrap_or_default();
        *request.version_mut() = Version::HTTP_11;
        for (name, value) in lines.filter_map(field) {
            request.headers_mut().append(name, value);
        }
        request.into()
    }
}

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_at(memchr::memchr(b':', line)?);
    Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value.get(1..)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_same_request_again() {
        let request = Request::options("/a:b?c=%0A:&d")
            .header("x-empty", "")
            .header("x-twice", "1: 2")
            .header("x-twice", HeaderValue::from_bytes(b"\ttab:\xff ").unwrap())
            .header("host", "shop:80")
            .body(RequestBody::Empty)
            .unwrap();
        let request = Outgoing::from(request);
        let again = Spare::of(&request).unwrap().outgoing();
        assert_eq!((&again.parts.method, &again.parts.uri), (&request.parts.method, &request.parts.uri));
        assert_eq!(again.parts.headers, request.parts.headers);
    }

    #[test]
    fn the_target_of_all_is_kept_and_what_is_not_safe_has_no_copy() {
        let copy = |method: &str| {
            let request = Request::builder().method(method).uri("*").body(RequestBody::Empty).unwrap();
            Spare::of(&request.into())
        };
        assert_eq!(copy("OPTIONS").unwrap().outgoing().parts.uri, "*");
        assert!(copy("POST").is_none());
    }
}
