//! Fetches a key set over HTTP or HTTPS.
//!
//! hyper and rustls do it: reqwest's TLS would be switched on for every binary built beside this one, and where no
//! provider of cryptography is installed its clients then panic.
//!
//! Invariant: what the other side does, it costs bounded time and memory: no redirects, a megabyte at most.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, HeaderValue, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::body::BoxError;

const MOST_BYTES: usize = 1024 * 1024;

/// The body of a 200 answer, in time.
pub(crate) async fn get(uri: &Uri, limit: Duration) -> Result<Bytes, BoxError> {
    tokio::time::timeout(limit, fetch(uri)).await.map_err(|_| "no answer in time")?
}

async fn fetch(uri: &Uri) -> Result<Bytes, BoxError> {
    let host = uri.host().ok_or("the URL names no host")?.trim_matches(['[', ']']);
    let is_secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await?;
    if !is_secure {
        return exchange(stream, uri).await;
    }
    let name = ServerName::try_from(host.to_owned())?;
    exchange(connector()?.connect(name, stream).await?, uri).await
}

/// Trusts what the system trusts; `SSL_CERT_FILE` names another file of roots.
fn connector() -> Result<TlsConnector, BoxError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    uri: &Uri,
) -> Result<Bytes, BoxError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    let connection = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(HOST, authority)
        .header(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"))
        .header(USER_AGENT, HeaderValue::from_static("banyan-facade"))
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    if answer.status() != StatusCode::OK {
        return Err(format!("it answered {}", answer.status().as_u16()).into());
    }
    let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await?.to_bytes();
    connection.abort();
    Ok(body)
}
