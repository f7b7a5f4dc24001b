//! What the admin API and the metrics tell of protection, asked of the binary.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Message, Upstream, Wire, eventually, ok};
use crate::tokens::{Issuer, Signer, claims};

struct Running {
    process: Child,
    address: String,
    admin: String,
    _folder: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(rest: &str) -> Running {
    serve_trusting(Path::new(""), rest)
}

/// Trusts the roots in a file; an empty name leaves it to the system.
fn serve_trusting(roots: &Path, rest: &str) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let head = "listen = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\nworkers = 1\n";
    let text = format!("{head}{rest}[control]\npath = 'control.db'\n");
    fs::write(folder.path().join("facade.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_facade"));
    command.current_dir(folder.path()).env("RUST_LOG", "error").arg("serve").stdout(Stdio::piped());
    if !roots.as_os_str().is_empty() {
        command.env("SSL_CERT_FILE", roots);
    }
    let mut process = command.spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.next().unwrap().strip_prefix("listening http://").unwrap().to_owned();
    let admin = lines.next().unwrap().strip_prefix("admin http://").unwrap().to_owned();
    Running { process, address, admin, _folder: folder }
}

fn get(address: &str, path: &str, header: &str) -> Message {
    let mut wire = Wire::connect(address.parse().unwrap());
    wire.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{header}connection: close\r\n\r\n"));
    wire.message().unwrap()
}

#[test]
fn what_was_refused_and_why_is_told() {
    let (upstream, signer) = (Upstream::saying("hello"), Signer::ed25519());
    let issuer = Issuer::with(&[signer.jwk("e")]);
    let running = serve(&format!(
        "[rate_limit]\nrequests = 1000\nper = 'minute'\n[forwarded]\ntrusted = ['10.0.0.0/8', '::1/128']\n\
         [upstreams.monolith]\nurl = 'http://{0}'\n[upstreams.svc]\nurl = 'http://{0}'\n\
         [contexts.users]\nservice = 'svc'\n[jwt.main]\njwks_url = '{1}'\nclaim_headers = {{ x-user = 'sub' }}\n\
         [adaptive]\nupstreams = ['monolith']\n[shedding]\nlow_lag_ms = 60000\n\
         [[routes]]\nprefix = '/users'\ncontext = 'users'\npriority = 'critical'\n\
         rate_limit = {{ requests = 1, per = 'hour', key = {{ jwt_claim = 'sub' }} }}\n\
         jwt = {{ provider = 'main', scopes = ['read'] }}\n",
        upstream.address,
        issuer.url()
    ));
    let ask = |changes: Value| {
        let token = signer.token("EdDSA", "e", &claims(changes));
        get(&running.address, "/users/1", &format!("authorization: Bearer {token}\r\n")).status()
    };
    assert_eq!(
        [ask(json!({})), ask(json!({})), ask(json!({"exp": 1})), ask(json!({"scope": ""}))],
        [200, 429, 401, 403]
    );
    let shown = get(&running.admin, "/api/v1/protection", "").json();
    assert_eq!(
        (&shown["rate_limit"]["requests"], &shown["rate_limit"]["per"]),
        (&json!(1000), &json!("minute"))
    );
    let route = &shown["routes"][0];
    assert_eq!(
        (&route["route"], &route["priority"], &route["issuer"]),
        (&json!("/users"), &json!("critical"), &json!("main"))
    );
    assert_eq!(
        (&route["rate_limited"], &route["unauthorized"]),
        (&json!(1), &json!({"expired": 1, "scope": 1}))
    );
    assert_eq!((&route["rate_limit"]["requests"], &route["rate_limit"]["clients"]), (&json!(1), &json!(1)));
    assert_eq!((&shown["issuers"][0]["keys"], &shown["issuers"][0]["failures"]), (&json!(1), &json!(0)));
    assert_eq!(
        (&shown["concurrency"][0]["upstream"], &shown["concurrency"][0]["limit"]),
        (&json!("monolith"), &json!(20))
    );
    assert_eq!(shown["shedding"]["refused"]["low/lag"], 0);
    let metrics = || get(&running.admin, "/metrics", "").text();
    for line in [
        "banyan_facade_rate_limited_total{route=\"/users\"} 1",
        "banyan_facade_unauthorized_total{route=\"/users\",reason=\"expired\"} 1",
        "banyan_facade_shed_total{priority=\"low\",reason=\"lag\"} 0",
        "banyan_facade_concurrency_limit{upstream=\"monolith\"} 20",
        "banyan_facade_jwks_age_seconds{provider=\"main\"} ",
    ] {
        eventually(line, || metrics().lines().any(|found| found.starts_with(line)));
    }
}

/// Answers every connection once, over TLS.
fn secure(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>, body: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            // A client that does not trust us goes away here.
            if stream.read(&mut [0; 4096]).is_ok() {
                let _ = stream.write_all(&ok(&body));
            }
        }
    });
    address
}

#[test]
fn keys_come_over_tls_and_only_from_who_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, made.cert.pem()).unwrap();
    let (upstream, signer) = (Upstream::saying("hello"), Signer::p256());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let jwks = json!({"keys": [signer.jwk("p")]}).to_string();
    let issuer = secure(made.cert.der().clone(), key, jwks);
    let settings = format!(
        "[upstreams.monolith]\nurl = 'http://{0}'\n[upstreams.svc]\nurl = 'http://{0}'\n\
         [contexts.users]\nservice = 'svc'\n[jwt.main]\njwks_url = 'https://localhost:{1}/jwks.json'\n\
         [[routes]]\nprefix = '/users'\ncontext = 'users'\njwt = {{ provider = 'main' }}\n",
        upstream.address,
        issuer.port()
    );
    let token = signer.token("ES256", "p", &claims(json!({})));
    let header = format!("authorization: Bearer {token}\r\n");
    let trusting = serve_trusting(&roots, &settings);
    assert_eq!(get(&trusting.address, "/users/1", &header).status(), 200);
    let strange = serve(&settings);
    assert_eq!(get(&strange.address, "/users/1", &header).status(), 503);
    let shown = get(&strange.admin, "/api/v1/protection", "").json();
    assert!(shown["issuers"][0]["trouble"].as_str().unwrap().contains("certificate"), "{shown}");
}
