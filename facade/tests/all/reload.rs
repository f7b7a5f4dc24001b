//! New settings while the facade runs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use control::{DataMode, FlagChange, Side};
use facade::settings::{ContextSettings, RouteSettings, Settings, UpstreamSettings};

use crate::support::{Fixture, Message, Upstream, Wire, eventually, ok, who};

/// A facade, and the settings that it was started with.
pub(crate) fn start(monolith: SocketAddr, service: SocketAddr) -> (Fixture, Settings) {
    let mut settings = None;
    let fixture = Fixture::with(monolith, service, |given| settings = Some(given.clone()));
    (fixture, settings.unwrap())
}

pub(crate) fn reload(fixture: &Fixture, settings: &Settings) -> Result<(), String> {
    let settings = settings.clone();
    fixture.facade.reloader().reload(|| Ok(settings)).map_err(|error| error.to_string())
}

fn with_orders(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    let orders =
        ContextSettings { service: "svc".to_owned(), data: DataMode::Shared, ..ContextSettings::default() };
    settings.contexts.insert("orders".to_owned(), orders);
    settings.routes.push(RouteSettings {
        prefix: "/orders".to_owned(),
        context: "orders".to_owned(),
        ..RouteSettings::default()
    });
    settings
}

fn all_to_service() -> FlagChange {
    FlagChange { reads: Some("100".parse().unwrap()), writes: Some(Side::Service), force: false }
}

#[test]
fn a_context_that_is_added_has_flag_gate_and_acknowledgement() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let (fixture, settings) = start(monolith.address, service.address);
    let mut kept = fixture.connect();
    let mut of = |path: &str| {
        kept.send(format!("PUT {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"));
        kept.message().unwrap().text()
    };
    assert_eq!(of("/orders"), "monolith");
    // Another facade declared it and moved it before this one knew of it.
    fixture.store.declare("orders", DataMode::Shared).unwrap();
    fixture.store.set_flag("orders", all_to_service(), &who()).unwrap();
    fixture.store.declare("accounts", DataMode::Shared).unwrap();
    reload(&fixture, &with_orders(&settings)).unwrap();
    assert_eq!(of("/orders"), "service", "an open connection follows the new settings, too");
    assert_eq!(of("/users"), "monolith", "the context that was there keeps its flag");
    let home = FlagChange { reads: Some("0".parse().unwrap()), writes: Some(Side::Monolith), force: false };
    let token = fixture.store.set_flag("orders", home, &who()).unwrap().token;
    eventually("the new flag is acknowledged", || {
        fixture.acked(|ack| ack.context == "orders" && ack.token >= token)
    });
    assert_eq!(of("/orders"), "monolith");
}

#[test]
fn a_context_goes_only_when_the_monolith_owns_it_and_may_come_back() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let (fixture, settings) = start(monolith.address, service.address);
    reload(&fixture, &with_orders(&settings)).unwrap();
    fixture.set("100", Some(Side::Service));
    let mut without = with_orders(&settings);
    without.contexts.remove("users");
    without.routes.remove(0);
    let refused = reload(&fixture, &without).unwrap_err();
    assert!(
        refused.contains("`users`") && refused.contains("migrate switch users --to monolith"),
        "{refused}"
    );
    assert_eq!(fixture.get("/users").text(), "service");
    fixture.set("100", Some(Side::Monolith));
    reload(&fixture, &without).unwrap();
    assert_eq!(fixture.get("/users").text(), "monolith");
    assert_eq!(fixture.get("/orders").text(), "monolith");
    reload(&fixture, &settings).unwrap();
    assert_eq!(fixture.get("/users").text(), "service");
}

#[test]
fn the_last_route_of_a_context_goes_only_when_the_monolith_owns_it() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let (fixture, settings) = start(monolith.address, service.address);
    fixture.set("100", Some(Side::Service));
    let mut two = settings.clone();
    two.routes.push(RouteSettings { prefix: "/people".to_owned(), ..settings.routes[0].clone() });
    reload(&fixture, &two).unwrap();
    two.routes.remove(0);
    reload(&fixture, &two).unwrap();
    two.routes.clear();
    let refused = reload(&fixture, &two).unwrap_err();
    assert!(refused.contains("context `users` cannot lose its last route"), "{refused}");
    assert_eq!(fixture.get("/people").text(), "service");
    fixture.set("100", Some(Side::Monolith));
    reload(&fixture, &two).unwrap();
    assert_eq!(fixture.get("/people").text(), "monolith");
}

#[test]
fn what_needs_a_restart_is_refused_with_all_the_rest() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let (fixture, settings) = start(monolith.address, service.address);
    fixture.set("1", None);
    let mut changed = settings.clone();
    changed.workers = 1;
    changed.control.poll_ms = 7;
    changed.private = vec!["/users/7".to_owned()];
    let refused = reload(&fixture, &changed).unwrap_err();
    assert_eq!(refused, "these settings need a restart: workers, control; the rest was not applied either");
    let status = || fixture.get("/users/7").status();
    assert_eq!(status(), 200);
    let view = fixture.facade.reloader().view();
    assert_eq!((view.failures, view.last_error.unwrap().message), (1, refused));
    changed.workers = settings.workers;
    changed.control = settings.control;
    reload(&fixture, &changed).unwrap();
    assert_eq!(status(), 404);
    let view = fixture.facade.reloader().view();
    assert_eq!((view.reloads, view.last_error), (1, None));
}

#[test]
fn an_upstream_that_did_not_change_keeps_its_connections() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let monolith = Upstream::raw(move |mut wire| {
        counter.fetch_add(1, Ordering::SeqCst);
        while wire.message().is_some() && wire.try_send(ok("monolith")) {}
    });
    let mut settings = None;
    let fixture = Fixture::with(monolith.address, Upstream::nobody(), |given| {
        given.workers = 1;
        settings = Some(given.clone());
    });
    let mut settings = settings.unwrap();
    let mut wire = fixture.connect();
    let mut ask = || {
        wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        wire.message().unwrap().text()
    };
    assert_eq!(ask(), "monolith");
    let other = Upstream::saying("other");
    let url = |address: SocketAddr| UpstreamSettings {
        url: format!("http://{address}"),
        ..UpstreamSettings::default()
    };
    settings.upstreams.insert("another".to_owned(), url(other.address));
    settings.upstreams.insert("svc".to_owned(), url(other.address));
    reload(&fixture, &settings).unwrap();
    assert_eq!(ask(), "monolith");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    settings.upstreams.insert("monolith".to_owned(), url(other.address));
    reload(&fixture, &settings).unwrap();
    assert_eq!(ask(), "other");
}

#[test]
fn no_request_fails_while_settings_change() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let (fixture, settings) = start(monolith.address, service.address);
    let mut elsewhere = with_orders(&settings);
    let url = format!("http://{}", service.address);
    elsewhere
        .upstreams
        .insert("monolith".to_owned(), UpstreamSettings { url, ..UpstreamSettings::default() });
    let (fixture, stop) = (Arc::new(fixture), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (fixture, stop) = (Arc::clone(&fixture), Arc::clone(&stop));
            thread::spawn(move || {
                let mut wire = fixture.connect();
                let mut answered = 0;
                while !stop.load(Ordering::Relaxed) {
                    wire.send("POST /orders HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
                    assert_eq!(wire.message().unwrap().status(), 200);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for round in 0..60 {
        reload(&fixture, if round % 2 == 0 { &elsewhere } else { &settings }).unwrap();
        assert_eq!(fixture.get("/").text(), if round % 2 == 0 { "service" } else { "monolith" });
    }
    stop.store(true, Ordering::Relaxed);
    let answered: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(answered > 100, "{answered} requests were answered");
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(address: &str, path: &str) -> Message {
    let mut wire = Wire::connect(address.strip_prefix("http://").unwrap().parse().unwrap());
    wire.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"));
    wire.message().unwrap()
}

fn write(folder: &Path, goal: SocketAddr, more: &str) {
    let text = format!(
        "listen = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\n{more}\n[control]\npath = 'control.db'\n\
         [upstreams.monolith]\nurl = 'http://{goal}'\n"
    );
    fs::write(folder.join("facade.toml"), text).unwrap();
}

#[test]
fn a_changed_file_takes_effect_and_a_bad_one_is_refused_and_seen_everywhere() {
    let (one, other) = (Upstream::saying("one"), Upstream::saying("other"));
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), one.address, "");
    let mut command = Command::new(env!("CARGO_BIN_EXE_facade"));
    let log = fs::File::create(folder.path().join("log")).unwrap();
    command.current_dir(folder.path()).arg("serve").stdout(Stdio::piped()).stderr(log);
    let mut running = Running(command.env("RUST_LOG", "info").spawn().unwrap());
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.next().unwrap().strip_prefix("listening ").unwrap().to_owned();
    let admin = lines.next().unwrap().strip_prefix("admin ").unwrap().to_owned();
    let version = || ask(&admin, "/api/v1/config").json()["version"].clone();
    let first = version();

    write(folder.path(), other.address, "");
    eventually("the changed file takes effect", || ask(&address, "/").text() == "other");
    assert_ne!(version(), first);

    write(folder.path(), one.address, "wrokers = 1");
    let config = || ask(&admin, "/api/v1/config").json();
    eventually("the bad file is refused", || config()["failures"] == 1);
    let message = config()["last_error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("unknown setting `wrokers`"), "{message}");
    let status = ask(&admin, "/api/v1/status").json();
    assert_eq!(status["settings_refused"]["message"], message.as_str());
    let log = || fs::read_to_string(folder.path().join("log")).unwrap();
    eventually("the log says where", || log().contains("facade.toml:3:1: unknown setting `wrokers`"));
    let metrics = ask(&admin, "/metrics").text();
    for line in [
        "banyan_facade_config_reload_failures_total 1",
        "banyan_facade_config_reloads_total 1",
        "banyan_facade_config_hash ",
        "banyan_facade_config_last_reload_success_timestamp_seconds ",
    ] {
        assert!(metrics.lines().any(|found| found.starts_with(line)), "{line} is missing in {metrics}");
    }
    assert_eq!(ask(&address, "/").text(), "other");

    // Unwatched, a file waits for the signal.
    write(folder.path(), one.address, "reload.watch = false");
    eventually("the mended file takes effect", || ask(&address, "/").text() == "one");
    write(folder.path(), other.address, "reload.watch = false");
    let pid = running.0.id().to_string();
    eventually("the signal is heard", || {
        Command::new("kill").args(["-HUP", &pid]).status().unwrap();
        ask(&address, "/").text() == "other"
    });
    assert_eq!(config()["last_error"], serde_json::Value::Null);
}
