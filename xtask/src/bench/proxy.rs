//! CPU time per proxied request of the facade against nginx: one worker each, the same upstream, the same load.
//!
//! Invariant: both are measured in turn in every round, and the bar is the median of the rounds' ratios, so that a
//! machine which slows down between rounds slows both.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use harness::http::{self, Ask};
use harness::process::{Job, Launch, Server};
use harness::{Binaries, ports, wait};

use super::{Measured, median, ticks, tools, wrk};

const ROUNDS: usize = 5;
const SECONDS: u32 = 4;
const CONNECTIONS: u32 = 32;
pub(super) const PATH: &str = "/api/v1/users/1";

pub(super) fn cpu_against_nginx(binaries: &Binaries) -> Result<Measured> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let (upstream_port, nginx_port) = (ports::free()?, ports::free()?);
    let _upstream = nginx(folder, "upstream", &upstream_conf(folder, upstream_port), upstream_port)?;
    let nginx = nginx(folder, "proxy", &proxy_conf(folder, nginx_port, upstream_port), nginx_port)?;
    let facade = facade(binaries, folder, upstream_port)?;
    let nginx_url = format!("http://127.0.0.1:{nginx_port}");
    let mut ratios = Vec::new();
    for warm_up in [&nginx_url, facade.url()?] {
        wrk(warm_up, 1)?;
    }
    for round in 1..=ROUNDS {
        let theirs = micros_per_request(nginx.pid(), &nginx_url)?;
        let ours = micros_per_request(facade.pid(), facade.url()?)?;
        eprintln!("proxy round {round}: facade {ours:.2} µs of CPU per request, nginx {theirs:.2}");
        ratios.push(ours / theirs);
    }
    Ok(Measured::at_most(median(ratios), 1.6))
}

fn micros_per_request(pid: u32, url: &str) -> Result<f64> {
    ticks::micros_per_request(pid, || wrk(url, SECONDS))
}

/// The load of `wrk`; returns how many requests were answered.
pub(super) fn wrk(url: &str, seconds: u32) -> Result<u64> {
    let mut command = wrk::command(CONNECTIONS, seconds);
    command.args([
        "-H",
        "Authorization: Bearer abcdefghijklmnopqrstuvwxyz",
        "-H",
        "Accept: application/json",
    ]);
    command.args(["-H", "User-Agent: bench/1.0", "-H", "X-User-Id: 42"]);
    wrk::requests(command.arg(format!("{url}{PATH}")))
}

pub(super) fn nginx(folder: &Path, name: &str, conf: &str, port: u16) -> Result<Job> {
    let path = folder.join(format!("{name}.conf"));
    fs::write(&path, conf)?;
    let launch = Launch::new(tools::nginx(), folder).args(["-c", &path.to_string_lossy()]).named(name);
    let mut job = Job::start(&launch)?;
    let url = format!("http://127.0.0.1:{port}");
    wait::until(&format!("nginx ({name}) answers"), Duration::from_secs(10), || {
        if let Some(status) = job.ended()? {
            let log = fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
            bail!("nginx ended with {status}: {}", log.trim());
        }
        Ok(http::call(&url, Ask::get(PATH)).is_ok_and(|answer| answer.status == 200).then_some(()))
    })?;
    Ok(job)
}

/// One process only: a `worker_processes 1` beside a master could outlive a killed master.
fn head(folder: &Path, name: &str) -> String {
    format!(
        "master_process off; daemon off; error_log stderr crit; pid {folder}/{name}.pid;\n\
         events {{ worker_connections 4096; }}\n",
        folder = folder.display()
    )
}

fn temporary_paths(folder: &Path) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    kinds.map(|kind| format!("{kind}_temp_path {}/{kind};", folder.display())).join(" ")
}

fn upstream_body() -> String {
    format!(r#"{{"id":"0b1c","email":"alice@example.com","name":"Alice","pad":"{:0560}"}}"#, 0)
}

/// As nginx answers by [`upstream_conf`].
pub(super) fn upstream_answer() -> Vec<u8> {
    let body = upstream_body();
    format!(
        "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: keep-alive\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(super) fn upstream_conf(folder: &Path, port: u16) -> String {
    let body = upstream_body();
    format!(
        "{}http {{ {} access_log off; keepalive_requests 100000000; tcp_nodelay on;\n\
         server {{ listen 127.0.0.1:{port}; default_type application/json; location / {{ return 200 '{body}'; }} }} }}\n",
        head(folder, "upstream"),
        temporary_paths(folder)
    )
}

pub(super) fn proxy_conf(folder: &Path, port: u16, upstream: u16) -> String {
    format!(
        "{}http {{ {} access_log off; keepalive_requests 100000000;\n\
         upstream u {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ proxy_http_version 1.1; proxy_set_header Connection \"\"; \
         proxy_pass http://u; }} }} }}\n",
        head(folder, "proxy"),
        temporary_paths(folder)
    )
}

/// The facade as it would run in front of a shop: a route, a context with a flag, a sticky key.
fn facade(binaries: &Binaries, folder: &Path, upstream: u16) -> Result<Server> {
    let path = folder.join("facade.toml");
    let url = format!("http://127.0.0.1:{upstream}");
    fs::write(
        &path,
        format!(
            "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nworkers = 1\nmonolith = \"monolith\"\n\n\
             [control]\npath = \"control.db\"\n\n[upstreams.monolith]\nurl = \"{url}\"\n\n\
             [upstreams.users-service]\nurl = \"{url}\"\n\n[contexts.users]\nservice = \"users-service\"\n\
             data = \"replicated\"\nkey = [{{ path_segment = \"/api/v1/users/{{key}}\" }}]\n\n\
             [[routes]]\nprefix = \"/api/v1/users\"\ncontext = \"users\"\n"
        ),
    )?;
    let launch = Launch::new(binaries.path("facade"), folder);
    Server::start(&launch.args(["--config", &path.to_string_lossy(), "serve"]), 2)
}
