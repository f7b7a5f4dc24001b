//! How clients reach the facade over TLS.
//!
//! Invariant: keys are named by file and never stand in the settings themselves.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// TLS to clients, beside or in place of the cleartext of `listen`. Files are read again when they change and on
/// SIGHUP; a new file that is wrong is told in log and metrics, and the old one goes on. A relative path in the settings
/// file means a path beside it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// Address and port for TLS; empty means no TLS. Port 0 takes a free one, which is printed.
    pub listen: String,
    /// PEM file with the certificate and what leads from it to a root, the certificate first. It serves names that no
    /// entry of `names` has. Needed with `listen`.
    pub certificate: PathBuf,
    /// PEM file with the private key of `certificate` (PKCS #8, PKCS #1 or SEC 1, without a password). Whoever reads it
    /// can pass for this server. Needed with `listen`.
    pub key: PathBuf,
    /// Further certificates, chosen by the name that the client asks for (SNI).
    pub names: Vec<CertificateSettings>,
    /// The oldest version that is spoken. `1.3` keeps clients out that are older than about 2018.
    pub min_version: TlsVersion,
    /// Milliseconds for the handshake, then the connection is closed; not 0. Too low cuts off clients on bad lines; too
    /// high and clients that say nothing hold connections.
    pub handshake_ms: u64,
    /// Milliseconds between two looks at the certificate files; not 0. Too high and a renewed certificate is served late.
    pub watch_ms: u64,
}

/// A certificate for names of its own.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CertificateSettings {
    /// Server names: `shop.example`, or `*.shop.example` for every name one level below. Clients that ask for a name
    /// written wrong here get the certificate of another.
    pub names: Vec<String>,
    /// PEM file with the certificate chain, the certificate first.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246)
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446)
    #[serde(rename = "1.3")]
    V1_3,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            listen: String::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            names: Vec::new(),
            min_version: TlsVersion::default(),
            handshake_ms: 10_000,
            watch_ms: 5_000,
        }
    }
}

impl TlsSettings {
    /// Every path in it, to be made absolute.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let further = self.names.iter_mut().flat_map(|entry| [&mut entry.certificate, &mut entry.key]);
        [&mut self.certificate, &mut self.key].into_iter().chain(further)
    }
}
