//! What the admin API and the metrics tell of protection, asked of the binary.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Message, Upstream, Wire, eventually};
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
    let folder = tempfile::tempdir().unwrap();
    let head = "listen = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\nworkers = 1\n";
    let text = format!("{head}{rest}[control]\npath = 'control.db'\n");
    fs::write(folder.path().join("facade.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_facade"));
    command.current_dir(folder.path()).env("RUST_LOG", "error").arg("serve").stdout(Stdio::piped());
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
        "[forwarded]\ntrusted = ['10.0.0.0/8', '::1/128']\n\
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
