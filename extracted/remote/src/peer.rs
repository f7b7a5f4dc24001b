//! One process of ours as another one calls it: base URL, token, deadline.
//!
//! Invariant: a failure says whether the request can have arrived, since only then may it be sent again.

use std::time::Duration;

use contracts::CallContext;
use platform::error::chain;
use platform::settings::Secret;
use reqwest::{Client, Method, StatusCode, Url};
use serde::Serialize;

/// Header with the milliseconds that the caller goes on waiting.
pub(crate) const TIMEOUT_HEADER: &str = "banyan-timeout-ms";
/// Shorter than our servers keep an idle connection, so that one is rarely used just when it is being closed.
const IDLE_LIMIT: Duration = Duration::from_secs(3);

/// Why a peer cannot be called at all: its settings are wrong.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The URL is not one that we can call.
    #[error("`{url}` is not the address of a peer; write it as http://127.0.0.1:3001")]
    NoUrl {
        /// What stood there.
        url: String,
    },
    /// There is no token.
    #[error(
        "there is no token for {url}; set the token that the process there demands (its replication.token)"
    )]
    NoToken {
        /// The peer's URL.
        url: String,
    },
    /// The HTTP client cannot be built.
    #[error("cannot set up the HTTP client")]
    Client(#[from] reqwest::Error),
}

#[derive(Debug, Clone)]
pub(crate) struct Peer {
    client: Client,
    base: Url,
    token: Secret,
}

/// An answer of any status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

/// No answer.
#[derive(Debug, Clone)]
pub(crate) struct Silence {
    pub(crate) reason: String,
    /// Whether the request may have arrived.
    pub(crate) maybe_done: bool,
}

impl Peer {
    pub(crate) fn new(url: &str, token: &Secret) -> Result<Self, PeerError> {
        let no_url = || PeerError::NoUrl { url: url.to_owned() };
        let base = Url::parse(url).map_err(|_| no_url())?;
        let is_plain = base.path() == "/" && base.query().is_none() && base.fragment().is_none();
        if base.scheme() != "http" || base.host_str().is_none() || !is_plain {
            return Err(no_url());
        }
        if token.expose().is_empty() {
            return Err(PeerError::NoToken { url: url.to_owned() });
        }
        let client = Client::builder().no_proxy().pool_idle_timeout(IDLE_LIMIT).tcp_nodelay(true).build()?;
        Ok(Self { client, base, token: token.clone() })
    }

    /// Sends one request, once.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
        timeout: Duration,
        ctx: Option<&CallContext>,
    ) -> Result<Answer, Silence> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(path);
        }
        let mut request =
            self.client.request(method, url).timeout(timeout).bearer_auth(self.token.expose()).json(body);
        if let Some(ctx) = ctx {
            request = request.header("x-request-id", &ctx.request_id.0);
            request = request.header(TIMEOUT_HEADER, timeout.as_millis().to_string());
            if let Some(traceparent) = &ctx.traceparent {
                request = request.header("traceparent", traceparent);
            }
        }
        let response = request.send().await.map_err(|error| silence(&error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| silence(&error))?;
        Ok(Answer { status, body: body.to_vec() })
    }
}

fn silence(error: &reqwest::Error) -> Silence {
    // Only while connecting is it certain that no byte of the request arrived.
    let unsent = error.is_connect() || error.is_builder();
    Silence { reason: chain(error), maybe_done: !unsent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_addresses_are_peers() {
        let token = Secret::new("t");
        assert!(Peer::new("http://127.0.0.1:3001", &token).is_ok());
        assert!(Peer::new("http://users.internal/", &token).is_ok());
        for url in ["", "127.0.0.1:3001", "https://a", "ftp://a", "http://a/b", "http://a?x=1"] {
            assert!(matches!(Peer::new(url, &token), Err(PeerError::NoUrl { .. })), "{url}");
        }
        assert!(matches!(Peer::new("http://a", &Secret::default()), Err(PeerError::NoToken { .. })));
    }
}
