//! Tokens signed here, and an issuer whose key set is served, rotated, slowed down and broken at will.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use facade::settings::{JwtRuleSettings, JwtSettings, Settings};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

use crate::support::{Upstream, ok};

/// For tests alone; nothing else knows it.
const RSA: &[u8] = include_bytes!("../fixtures/rsa.der");

pub(crate) enum Signer {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Secret(&'static str),
}

impl Signer {
    pub(crate) fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::from_pkcs8(RSA).unwrap())
    }

    pub(crate) fn p256() -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random);
        Self::P256(pair.unwrap())
    }

    pub(crate) fn ed25519() -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
    }

    fn sign(&self, algorithm: &str, text: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                match algorithm {
                    "PS256" => pair.sign(&RSA_PSS_SHA256, &random, text, &mut signature),
                    _ => pair.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature),
                }
                .unwrap();
                signature
            }
            Self::P256(pair) => pair.sign(&random, text).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(text).as_ref().to_vec(),
            Self::Secret(secret) => hmac(secret.as_bytes(), text),
        }
    }

    /// The public key as bytes, in the forms in which somebody might take it for a secret.
    pub(crate) fn public(&self) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => pair.public().as_ref().to_vec(),
            Self::P256(pair) => pair.public_key().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            Self::Secret(secret) => secret.as_bytes().to_vec(),
        }
    }

    pub(crate) fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "kid": id, "use": "sig", "n": encode(n), "e": encode(e)})
            }
            Self::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": id, "x": encode(&point[1..33]), "y": encode(&point[33..])})
            }
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": encode(pair.public_key().as_ref())})
            }
            Self::Secret(secret) => json!({"kty": "oct", "kid": id, "k": encode(secret.as_bytes())}),
        }
    }

    pub(crate) fn token(&self, algorithm: &str, id: &str, claims: &Value) -> String {
        self.with_header(algorithm, &json!({"alg": algorithm, "kid": id}), claims)
    }

    pub(crate) fn with_header(&self, algorithm: &str, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }
}

pub(crate) fn hmac(secret: &[u8], text: &[u8]) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    ring::hmac::sign(&key, text).as_ref().to_vec()
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Claims of a token that is fine, with changes.
pub(crate) fn claims(changes: Value) -> Value {
    let mut claims =
        json!({"sub": "ann", "iss": "https://issuer", "aud": ["shop"], "exp": now() + 600, "scope": "read"});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// A server with a key set; empty bytes close the connection without an answer.
pub(crate) struct Issuer {
    upstream: Upstream,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Issuer {
    pub(crate) fn with(keys: &[Value]) -> Self {
        let issuer = Self::answering(Vec::new());
        issuer.serve(keys);
        issuer
    }

    pub(crate) fn answering(bytes: Vec<u8>) -> Self {
        let answer = Arc::new(Mutex::new(bytes));
        let served = Arc::clone(&answer);
        let upstream = Upstream::answering(move |_| served.lock().unwrap().clone());
        Self { upstream, answer }
    }

    pub(crate) fn serve(&self, keys: &[Value]) {
        self.say(ok(&json!({ "keys": keys }).to_string()));
    }

    pub(crate) fn say(&self, bytes: Vec<u8>) {
        *self.answer.lock().unwrap() = bytes;
    }

    pub(crate) fn fetches(&self) -> usize {
        self.upstream.seen().len()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/jwks.json", self.upstream.address)
    }
}

/// Asks for a token of this issuer on the one route there is; keys are fetched once.
pub(crate) fn guarded(url: String) -> impl FnOnce(&mut Settings) {
    guarded_by(JwtSettings {
        jwks_url: url,
        issuer: "https://issuer".to_owned(),
        audience: vec!["shop".to_owned()],
        refresh_s: 3_600,
        min_pause_s: 3_600,
        ..JwtSettings::default()
    })
}

pub(crate) fn guarded_by(jwt: JwtSettings) -> impl FnOnce(&mut Settings) {
    move |settings| {
        settings.jwt.insert("main".to_owned(), jwt);
        settings.routes[0].jwt = Some(JwtRuleSettings {
            provider: "main".to_owned(),
            scopes: vec!["read".to_owned()],
            ..JwtRuleSettings::default()
        });
    }
}
