//! Keys that tokens are checked with, read from a JWKS (RFC 7517), and the check itself, done by `ring`.
//!
//! Invariant: a key knows the algorithms it is for. What a token says of its algorithm only picks among them, so a
//! public key is never taken for the secret of HS256.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;

use crate::settings::Algorithm;

/// Keys of a set that are looked at; more are none of an honest issuer.
const MOST_KEYS: usize = 100;
/// Keys that a token without a key id is tried with.
const MOST_TRIED: usize = 4;

/// The keys of one issuer at one time.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeySet {
    pub(crate) keys: Arc<[Key]>,
    /// Changes with the keys: what was checked with others counts no more.
    pub(crate) generation: u64,
    /// Fetches that had ended by then.
    pub(crate) round: u64,
    /// None before the first fetch.
    pub(crate) fetched: Option<Instant>,
    /// The keys were too old to be trusted, and are gone.
    pub(crate) is_stale: bool,
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    id: Option<String>,
    /// What the set says it is for; none where it says nothing.
    only: Option<Algorithm>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
    Secret(hmac::Key),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// The members of a JWK that count here (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads a set. Keys of a kind that is not known here are left out, as RFC 7517 §5 asks; a set without any that is
/// known is refused.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<Key>, String> {
    let document: Document =
        serde_json::from_slice(text).map_err(|error| format!("it is no JWKS: {error}"))?;
    let keys: Vec<Key> = document.keys.into_iter().take(MOST_KEYS).filter_map(key).collect();
    if keys.is_empty() {
        return Err("it holds no key for RS256, PS256, ES256 or EdDSA".to_owned());
    }
    Ok(keys)
}

fn key(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if jwk.usage.is_some_and(|usage| usage != "sig")
        || jwk.key_ops.is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
    {
        return None;
    }
    let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => Material::Rsa { n: number(&jwk.n?)?, e: number(&jwk.e?)? },
        ("EC", Some("P-256")) => {
            let (x, y) = (bytes(&jwk.x?)?, bytes(&jwk.y?)?);
            if x.len() != 32 || y.len() != 32 {
                return None;
            }
            Material::P256([&[4], x.as_slice(), &y].concat())
        }
        ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(&jwk.x?)?),
        // Symmetric keys (`oct`) have no place in a set that everybody may read.
        _ => return None,
    };
    let only = match jwk.alg.as_deref() {
        None => None,
        Some(name) => Some(algorithm(name)?),
    };
    Some(Key { id: jwk.kid, only, material })
}

/// The algorithm of a name; none for `none` and everything else.
pub(crate) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "PS256" => Algorithm::PS256,
        "ES256" => Algorithm::ES256,
        "EdDSA" => Algorithm::EdDSA,
        "HS256" => Algorithm::HS256,
        _ => return None,
    })
}

pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// A number without the zeros in front that some issuers write.
fn number(text: &str) -> Option<Vec<u8>> {
    let bytes = bytes(text)?;
    let start = bytes.iter().position(|byte| *byte != 0)?;
    bytes.get(start..).map(<[u8]>::to_vec)
}

/// What came of looking for the key of a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    Valid,
    Forged,
    UnknownKey,
}

impl KeySet {
    pub(crate) fn of_secret(secret: &str) -> Self {
        let material = Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
        let keys = [Key { id: None, only: Some(Algorithm::HS256), material }].into();
        Self { keys, fetched: Some(Instant::now()), ..Self::default() }
    }

    /// Checks a signature with the key of that id, or where it or the key has none, with those that may be meant.
    pub(crate) fn check(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        signed: &[u8],
        signature: &[u8],
    ) -> Checked {
        let may_be = |key: &&Key| {
            key.is_for(algorithm) && (key.id.is_none() || id.is_none() || key.id.as_deref() == id)
        };
        let mut verdict = Checked::UnknownKey;
        for key in self.keys.iter().filter(may_be).take(MOST_TRIED) {
            if key.verifies(algorithm, signed, signature) {
                return Checked::Valid;
            }
            verdict = Checked::Forged;
        }
        verdict
    }
}

impl Key {
    fn is_for(&self, algorithm: Algorithm) -> bool {
        let fits = match &self.material {
            Material::Rsa { .. } => matches!(algorithm, Algorithm::RS256 | Algorithm::PS256),
            Material::P256(_) => algorithm == Algorithm::ES256,
            Material::Ed25519(_) => algorithm == Algorithm::EdDSA,
            Material::Secret(_) => algorithm == Algorithm::HS256,
        };
        fits && self.only.is_none_or(|only| only == algorithm)
    }

    fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Rsa { n, e } => {
                let parameters = match algorithm {
                    Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
                    _ => &signature::RSA_PKCS1_2048_8192_SHA256,
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
            }
            Material::P256(point) => {
                let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
                key.verify(signed, signature).is_ok()
            }
            Material::Ed25519(point) => {
                UnparsedPublicKey::new(&signature::ED25519, point).verify(signed, signature).is_ok()
            }
            Material::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
        }
    }
}
