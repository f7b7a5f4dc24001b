//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT of the client is an upgrade at the upstream.
//!
//! Invariant: the client is told of a tunnel only after the upstream has switched to WebSocket and has shown that it
//! read our key; no other answer of the upstream looks like one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{Method, Request, StatusCode};
use hyper::ext::Protocol;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use uuid::Uuid;

use crate::answer::{Answer, Refusal};

const UPGRADE_OPTION: HeaderValue = HeaderValue::from_static("upgrade");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// What a server mixes into its answer (RFC 6455 §1.3).
const MIXED_IN: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Marks a request that came as an extended CONNECT.
#[derive(Debug, Clone)]
pub(crate) struct Tunnel {
    accept: String,
}

/// Makes an extended CONNECT for WebSocket into the request that HTTP/1.1 has for it; any other stays to be refused.
pub(crate) fn to_upgrade<B>(request: &mut Request<B>) {
    let protocol = request.extensions().get::<Protocol>();
    if !protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket")) {
        return;
    }
    // HTTP/2 has no key, since nobody there could take the handshake for something else (RFC 8441 §5).
    let key = STANDARD.encode(Uuid::new_v4().as_bytes());
    let accept = accept(&key);
    let Ok(key) = HeaderValue::try_from(key) else { return };
    *request.method_mut() = Method::GET;
    request.headers_mut().insert(CONNECTION, UPGRADE_OPTION);
    request.headers_mut().insert(UPGRADE, WEBSOCKET);
    request.headers_mut().insert(SEC_WEBSOCKET_KEY, key);
    request.extensions_mut().insert(Tunnel { accept });
}

fn accept(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), MIXED_IN].concat()))
}

impl Tunnel {
    /// The upstream's answer as HTTP/2 has it: 200 opens the tunnel, so no other answer may be a success.
    pub(crate) fn settle(&self, mut answer: Answer) -> Result<Answer, Refusal> {
        let (status, headers) = (answer.parts.status, &mut answer.parts.headers);
        if status != StatusCode::SWITCHING_PROTOCOLS && !status.is_success() {
            return Ok(answer);
        }
        let is_accepted = headers.remove(SEC_WEBSOCKET_ACCEPT).is_some_and(|value| value == self.accept);
        if status.is_success() || !is_accepted {
            let detail = "the upstream did not open a WebSocket";
            return Err(Refusal::new(StatusCode::BAD_GATEWAY, detail));
        }
        headers.remove(CONNECTION);
        headers.remove(UPGRADE);
        headers.remove(CONTENT_LENGTH);
        answer.parts.status = StatusCode::OK;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_rfc() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
