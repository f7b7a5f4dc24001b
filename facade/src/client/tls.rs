//! TLS to clients: rustls with the cryptography of `ring`, a protocol chosen by ALPN.
//!
//! Invariant: no early data (0-RTT): what can be replayed is no request.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Version;
use rustls::crypto::ring;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::client::certificates::Certificates;
use crate::settings::{TlsSettings, TlsVersion};

const HTTP_2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// What TLS connections have in common.
pub(crate) struct Tls {
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) watch: Duration,
    acceptor: TlsAcceptor,
    handshake: Duration,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("certificates", &self.certificates).finish_non_exhaustive()
    }
}

impl Tls {
    /// None where TLS is off, or its settings are wrong.
    pub(crate) fn new(settings: &TlsSettings, offer: Http2, errors: &mut Vec<String>) -> Option<Self> {
        if settings.listen.is_empty() {
            let unused = [("certificate", &settings.certificate), ("key", &settings.key)];
            if let Some((name, _)) = unused.iter().find(|(_, path)| !path.as_os_str().is_empty()) {
                errors.push(format!(
                    "setting `tls.{name}` is of no use while `tls.listen` is empty; set that, or leave it away"
                ));
            }
            return None;
        }
        for (name, value) in [("handshake_ms", settings.handshake_ms), ("watch_ms", settings.watch_ms)] {
            if value == 0 {
                errors.push(format!("setting `tls.{name}` is 0, which nothing could meet; set 1 or more"));
            }
        }
        let certificates = match Certificates::new(settings) {
            Ok(certificates) => Arc::new(certificates),
            Err(found) => {
                errors.extend(found);
                return None;
            }
        };
        match config(settings, &certificates, offer) {
            Ok(config) => Some(Self {
                certificates,
                watch: Duration::from_millis(settings.watch_ms),
                acceptor: TlsAcceptor::from(Arc::new(config)),
                handshake: Duration::from_millis(settings.handshake_ms),
            }),
            Err(error) => {
                errors.push(format!("setting `tls`: {error}"));
                None
            }
        }
    }
}

/// Whether HTTP/2 is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Http2 {
    Offered,
    Withheld,
}

fn config(
    settings: &TlsSettings,
    certificates: &Arc<Certificates>,
    offer: Http2,
) -> Result<ServerConfig, rustls::Error> {
    let both: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    let versions = if settings.min_version == TlsVersion::V1_3 { &[&TLS13] } else { both };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::<Certificates>::clone(certificates));
    if offer == Http2::Offered {
        config.alpn_protocols.push(HTTP_2.to_vec());
    }
    config.alpn_protocols.push(HTTP_1_1.to_vec());
    // Sessions are kept by the clients, encrypted, so that any worker resumes them.
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

/// Shakes hands; the version is the one that was agreed upon.
pub(crate) async fn accept(tls: &Tls, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Version)> {
    let stream = timeout(tls.handshake, tls.acceptor.accept(stream)).await??;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
    Ok((stream, if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 }))
}
