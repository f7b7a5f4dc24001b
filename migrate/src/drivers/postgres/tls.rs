//! TLS to a server, asked for in the URL as libpq understands it: `sslmode`, `sslrootcert`, `sslcert` and `sslkey`.
//!
//! Invariant: what the URL asks for is done or refused; nothing falls back to less than it.

use std::fs;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use postgres::config::SslMode;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The parameters that are read here; the client library knows only some of them.
const PARAMETERS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];
/// The word for the authorities that the machine trusts.
const SYSTEM: &str = "system";

/// What a URL asks for.
#[derive(Debug)]
pub(super) struct Tls {
    /// The URL without what is said here.
    pub(super) url: String,
    /// Whether it may be left out, must be left out, or must be.
    pub(super) mode: SslMode,
    /// How it is done.
    pub(super) config: ClientConfig,
}

/// What is asked of the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// Nothing: who listens in learns nothing, who stands between learns all.
    Nothing,
    /// That a trusted authority signed it.
    Authority,
    /// And that it is made for the host.
    Host,
}

/// Checks a certificate.
#[derive(Debug)]
struct Verifier {
    check: Check,
    authorities: RootCertStore,
    /// The certificates of `sslrootcert`: a server may show one of them itself.
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Tls {
    /// Reads the parameters of a URL; an error says which of them is wrong.
    pub(super) fn of_url(url: &str) -> Result<Self, String> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let (ours, others): (Vec<&str>, Vec<&str>) =
            query.split('&').filter(|parameter| !parameter.is_empty()).partition(|parameter| {
                parameter.split_once('=').is_some_and(|(name, _)| PARAMETERS.contains(&name))
            });
        let value = |wanted: &str| {
            let values = ours.iter().filter_map(|parameter| parameter.split_once('='));
            let value = values.rev().find(|(name, _)| *name == wanted)?.1;
            Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
        };
        let authorities = value("sslrootcert");
        let (mode, check) = mode(value("sslmode").as_deref(), authorities.as_deref())?;
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new(check, authorities.as_deref(), Arc::clone(&provider))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match (value("sslcert"), value("sslkey")) {
            (None, None) => config.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let chain = certificates("sslcert", &certificate)?;
                let secret = PrivateKeyDer::from_pem_slice(&read("sslkey", &key)?).map_err(|error| {
                    format!("sslkey={key} holds no key as PEM without a password: {error}")
                })?;
                let both = config.with_client_auth_cert(chain, secret);
                both.map_err(|error| format!("sslcert={certificate} and sslkey={key} do not fit: {error}"))?
            }
            _ => return Err("sslcert and sslkey belong together; give both".to_owned()),
        };
        let question = if others.is_empty() { "" } else { "?" };
        Ok(Self { url: format!("{address}{question}{}", others.join("&")), mode, config })
    }
}

/// As libpq: a weaker mode still checks the authority where one is named, and the machine's own authorities, who sign for anybody,
/// say nothing without the host's name.
fn mode(mode: Option<&str>, authorities: Option<&str>) -> Result<(SslMode, Check), String> {
    let weak = match authorities {
        Some(SYSTEM) if mode.is_some_and(|mode| mode != "verify-full") => {
            return Err("sslrootcert=system goes with sslmode=verify-full only".to_owned());
        }
        Some(_) => Check::Authority,
        None => Check::Nothing,
    };
    Ok(match mode {
        Some("disable") => (SslMode::Disable, Check::Nothing),
        None if authorities == Some(SYSTEM) => (SslMode::Require, Check::Host),
        None | Some("prefer") => (SslMode::Prefer, weak),
        Some("require") => (SslMode::Require, weak),
        Some("verify-ca") => (SslMode::Require, Check::Authority),
        Some("verify-full") => (SslMode::Require, Check::Host),
        Some(other) => {
            return Err(format!(
                "sslmode={other} is none of disable, prefer, require, verify-ca and verify-full"
            ));
        }
    })
}

fn read(parameter: &str, file: &str) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{parameter}={file} cannot be read: {error}"))
}

fn certificates(parameter: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(parameter, file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| format!("{parameter}={file} holds no certificates as PEM: {error}"))?;
    if all.is_empty() {
        return Err(format!("{parameter}={file} holds no certificate as PEM"));
    }
    Ok(all)
}

impl Verifier {
    fn new(check: Check, authorities: Option<&str>, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let trusted = match authorities {
            _ if check == Check::Nothing => Vec::new(),
            Some(file) if file != SYSTEM => certificates("sslrootcert", file)?,
            _ => rustls_native_certs::load_native_certs().certs,
        };
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(trusted.iter().cloned());
        let named = authorities.is_some_and(|file| file != SYSTEM);
        let trusted = if named { trusted } else { Vec::new() };
        Ok(Self { check, authorities: store, trusted, provider })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.check == Check::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let certificate = ParsedCertificate::try_from(shown)?;
        if !self.trusted.iter().any(|trusted| trusted.as_ref() == shown.as_ref()) {
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &self.authorities,
                intermediates,
                now,
                algorithms,
            )?;
        }
        if self.check == Check::Host {
            verify_server_name(&certificate, host)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, shown, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, shown, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<(SslMode, String), String> {
        let tls = Tls::of_url(&format!("postgres://me@h/n{query}"))?;
        Ok((tls.mode, tls.url))
    }

    #[test]
    fn parameters_mean_what_they_mean_to_libpq() {
        let plain = "postgres://me@h/n".to_owned();
        assert_eq!(asked(""), Ok((SslMode::Prefer, plain.clone())));
        assert_eq!(asked("?sslmode=disable"), Ok((SslMode::Disable, plain.clone())));
        for mode in ["require", "verify-ca", "verify-full"] {
            assert_eq!(asked(&format!("?sslmode={mode}")), Ok((SslMode::Require, plain.clone())), "{mode}");
        }
        let others = asked("?connect_timeout=3&sslmode=require&options=-c%20jit%3Doff").unwrap();
        assert_eq!(others.1, "postgres://me@h/n?connect_timeout=3&options=-c%20jit%3Doff");
        assert_eq!(mode(Some("require"), Some("a.pem")), Ok((SslMode::Require, Check::Authority)));
        assert_eq!(mode(None, Some(SYSTEM)), Ok((SslMode::Require, Check::Host)));
    }

    #[test]
    fn what_cannot_be_done_is_said_with_the_parameter() {
        for (query, said) in [
            ("?sslmode=allow", "none of disable, prefer"),
            ("?sslmode=require&sslrootcert=system", "verify-full only"),
            ("?sslmode=verify-ca&sslrootcert=gone.pem", "sslrootcert=gone.pem cannot be read"),
            ("?sslmode=require&sslcert=a.pem", "belong together"),
        ] {
            let error = asked(query).unwrap_err();
            assert!(error.contains(said), "{query}: {error}");
        }
    }
}
