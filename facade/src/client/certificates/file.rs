//! Reading one certificate and its key, with the reason in words where they cannot be used.
//!
//! Invariant: what is read ends, whatever a path leads to, and what passes can be served to a client that checks it.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// Bytes that a chain or a key may have; a file that is larger is some other file.
const MOST_BYTES: u64 = 1024 * 1024;
/// Kinds of keys that are served.
const KINDS: &str = "use RSA with 2,048 to 8,192 bits, ECDSA on P-256 or P-384, or Ed25519";

/// A certificate's chain, not yet joined with its key.
pub(super) struct Chain {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// When the first one begins and ends, in seconds since 1970.
    pub(super) begins: u64,
    pub(super) ends: u64,
}

/// The error is the reason alone.
pub(super) fn chain(path: &Path) -> Result<Chain, String> {
    let text = bytes(path)?;
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|error| reason(&error))?;
    let mut validity = None;
    for (place, certificate) in certificates.iter().enumerate() {
        let parsed = Certificate::from_der(certificate)
            .map_err(|error| format!("certificate {} in it is no X.509 certificate: {error}", place + 1))?;
        validity.get_or_insert(parsed.tbs_certificate.validity);
    }
    let Some(validity) = validity else { return Err("there is no certificate in it".to_owned()) };
    let begins = validity.not_before.to_unix_duration().as_secs();
    let ends = validity.not_after.to_unix_duration().as_secs();
    Ok(Chain { certificates, begins, ends })
}

/// The error is the reason alone.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = bytes(path)?;
    let is_encrypted = text.split(|byte| *byte == b'\n').any(|line| {
        line.starts_with(b"-----BEGIN ENCRYPTED")
            || (line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED"))
    });
    if is_encrypted {
        return Err(
            "it is encrypted with a password; take that off with `openssl pkey -in FILE -out NEW`".to_owned()
        );
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| reason(&error))
}

/// Joins them; the error is the reason alone.
pub(super) fn certified(
    chain: Chain,
    key: PrivateKeyDer<'static>,
    path: &Path,
) -> Result<Arc<CertifiedKey>, String> {
    match CertifiedKey::from_der(chain.certificates, key, &ring::default_provider()) {
        Ok(certified) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => Err(format!("it is not the key of `{}`", path.display())),
        Err(_) => Err(format!("its kind or size is not served; {KINDS}")),
    }
}

/// Whether a certificate may be chosen by this name.
pub(super) fn is_server_name(name: &str) -> bool {
    DnsName::try_from(example(name)).is_ok()
}

/// What clients will have against a certificate for these names today; it is served all the same, since the old one
/// may be worse.
pub(super) fn doubts(names: &[String], chain: &Chain) -> Vec<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut doubts = Vec::new();
    if now < chain.begins {
        doubts.push("is not valid yet".to_owned());
    }
    if now > chain.ends {
        doubts.push("has expired".to_owned());
    }
    let strange = names.iter().filter(|name| !covers(chain, name));
    doubts.extend(strange.map(|name| format!("does not name `{name}` (in its subjectAltName)")));
    doubts
}

fn covers(chain: &Chain, name: &str) -> bool {
    let Some(first) = chain.certificates.first() else { return false };
    let Ok(server) = ServerName::try_from(example(name)) else { return false };
    ParsedCertificate::try_from(first).and_then(|parsed| verify_server_name(&parsed, &server)).is_ok()
}

/// A wildcard stands for one label, whichever.
fn example(name: &str) -> String {
    name.strip_prefix("*.").map_or_else(|| name.to_owned(), |parent| format!("any.{parent}"))
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    if !fs::metadata(path).map_err(|error| error.to_string())?.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err("it is larger than 1 MiB".to_owned());
    }
    Ok(bytes)
}

fn reason(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "there is none in it".to_owned(),
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("the line END {} is missing; the file is cut off", String::from_utf8_lossy(end_marker))
        }
        pem::Error::IllegalSectionStart { .. } => "a line BEGIN is not written as PEM has it".to_owned(),
        pem::Error::Base64Decode(_) => "what stands between BEGIN and END is not base64".to_owned(),
        other => other.to_string(),
    }
}
