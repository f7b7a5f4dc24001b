//! The binary, as an operator uses it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::{Upstream, Wire, eventually};

struct Running {
    folder: TempDir,
    process: Child,
    address: SocketAddr,
    admin: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write_settings(folder: &Path, monolith: SocketAddr, service: SocketAddr) {
    let text = format!(
        "listen = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\n[control]\npath = 'control.db'\n\
         [upstreams.monolith]\nurl = 'http://{monolith}'\n[upstreams.svc]\nurl = 'http://{service}'\n\
         [contexts.cart]\nservice = 'svc'\ndata = 'shared'\nkey = [{{ header = 'x-key' }}]\n\
         [contexts.users]\nservice = 'svc'\nkey = [{{ path_segment = '/users/{{key}}' }}]\n\
         [[routes]]\nprefix = '/cart'\ncontext = 'cart'\n[[routes]]\nprefix = '/users'\ncontext = 'users'\n"
    );
    fs::write(folder.join("facade.toml"), text).unwrap();
}

fn facade(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facade"));
    command.current_dir(folder).env("USER", "ann").env("RUST_LOG", "warn");
    command
}

fn serve(monolith: SocketAddr, service: SocketAddr) -> Running {
    let folder = tempfile::tempdir().unwrap();
    write_settings(folder.path(), monolith, service);
    let mut process = facade(folder.path()).arg("serve").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.next().unwrap().strip_prefix("listening http://").unwrap().parse().unwrap();
    let admin = lines.next().unwrap().strip_prefix("admin ").unwrap().to_owned();
    Running { folder, process, address, admin }
}

impl Running {
    /// Exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = facade(self.folder.path());
        command.args(arguments);
        if arguments[0] == "flag" {
            command.args(["--admin", &self.admin]);
        }
        outcome(&mut command)
    }

    fn admin(&self, request: &str) -> crate::support::Message {
        let mut wire = Wire::connect(self.admin.strip_prefix("http://").unwrap().parse().unwrap());
        wire.send(request);
        wire.message().unwrap()
    }
}

fn outcome(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn assert_refused(outcome: (i32, String, String), parts: &[&str]) {
    let (code, out, err) = outcome;
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    for part in parts {
        assert!(err.contains(part), "{part} is missing in {err}");
    }
}

fn assert_unsound(folder: &Path, parts: &[&str]) {
    let (code, out, err) = outcome(facade(folder).arg("check"));
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    for part in parts {
        assert!(err.contains(part), "{part} is missing in {err}");
    }
}

#[test]
fn a_flag_is_set_listed_and_remembered() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let running = serve(monolith.address, service.address);
    let (code, out, err) = running
        .run(&["flag", "set", "cart", "--reads", "100%", "--writes", "service", "--reason", "a trial"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("extracted") && out.contains("100%"), "{out}");
    let mut wire = Wire::connect(running.address);
    eventually("the flag takes effect", || {
        wire.send("GET /cart HTTP/1.1\r\nhost: a\r\n\r\n");
        wire.message().unwrap().text() == "service"
    });
    let (_, out, _) = running.run(&["flag", "list", "--json"]);
    let flags: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&flags[0]["context"], &flags[0]["reads"], &flags[0]["stage"]),
        (&"cart".into(), &"100".into(), &"extracted".into())
    );
    let (_, out, _) = running.run(&["flag", "history", "cart"]);
    assert!(out.contains("ann") && out.contains("a trial"), "{out}");
}

#[test]
fn what_cannot_be_set_is_refused_in_one_line_with_the_remedy() {
    let running = serve(Upstream::nobody(), Upstream::nobody());
    let set = |context: &str, what: &[&str]| {
        running.run(&[&["flag", "set", context, "--reason", "r"], what].concat())
    };
    assert_refused(set("cart", &["--reads", "101"]), &["reads", "`101` is not a weight"]);
    assert_refused(set("cart", &["--reads", "-1"]), &["`-1` is not a weight"]);
    assert_refused(set("cart", &["--writes", "both"]), &["writes", "`both` is not a side"]);
    assert_refused(set("basket", &["--reads", "1"]), &["unknown context `basket`", "cart, users"]);
    assert_refused(set("../x?y", &["--reads", "1"]), &["unknown context `../x?y`"]);
    assert_refused(set("users", &["--writes", "service"]), &["refused", "migrate switch users --to service"]);
    assert_refused(set("users", &["--reads", "10"]), &["refused", "migrate"]);
    assert_refused(running.run(&["flag", "history", "basket"]), &["unknown context `basket`"]);
    let (_, out, _) = running.run(&["flag", "history", "--json"]);
    assert_eq!(out.trim(), "[]", "a refused change left a trace");
}

#[test]
fn a_facade_that_does_not_run_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let admin = format!("http://{}", Upstream::nobody());
    assert_refused(
        outcome(facade(folder.path()).args(["flag", "list", "--admin", &admin])),
        &[&admin, "cannot be reached", "facade serve"],
    );
}

#[test]
fn the_admin_api_speaks_problem_json_and_prometheus() {
    let running = serve(Upstream::nobody(), Upstream::nobody());
    let put = |context: &str, body: &str| {
        running.admin(&format!(
            "PUT /api/v1/flags/{context} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    for (context, body, status) in [
        ("cart", "{", 400),
        ("cart", r#"{"reads":101,"reason":"r","actor":"a"}"#, 422),
        ("nope", r#"{"reads":1,"reason":"r","actor":"a"}"#, 404),
        ("users", r#"{"writes":"service","reason":"r","actor":"a"}"#, 409),
        ("cart", r#"{"reads":1,"reason":"r","actor":"a"}"#, 200),
    ] {
        let answer = put(context, body);
        assert_eq!(answer.status(), status, "{body}: {}", answer.text());
        let is_problem = answer.header("content-type") == Some("application/problem+json");
        assert_eq!(is_problem, status != 200);
    }
    let get = |path: &str| running.admin(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    assert_eq!(get("/api/v1/flags/cart").json()["reads"], "1");
    assert_eq!(get("/api/v1/routes").json()["items"][0]["path"], "/cart");
    assert_eq!(get("/health/ready").json()["status"], "ok");
    let mut wire = Wire::connect(running.address);
    wire.send("GET /cart HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(wire.message().unwrap().status(), 502);
    eventually("the request is counted", || {
        let line = "banyan_facade_requests_total{context=\"cart\",side=\"monolith\",kind=\"read\",status_class=\"5xx\"} 1";
        get("/metrics").text().contains(line)
    });
    let stranger = running.admin("GET /api/v1/flags HTTP/1.1\r\nhost: evil.example\r\n\r\n");
    assert_eq!(stranger.status(), 403);
}

#[test]
fn explain_tells_side_and_reason() {
    let running = serve(Upstream::nobody(), Upstream::nobody());
    running.run(&["flag", "set", "cart", "--reads", "50", "--reason", "r"]);
    let (_, out, err) = running.run(&["explain", "GET", "/cart/x", "-H", "X-Key: 7", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    let bucket = control::bucket("cart", b"7");
    let side = if bucket < 5_000 { "service" } else { "monolith" };
    assert_eq!(
        (&told["bucket"], &told["side"], &told["route"]),
        (&bucket.into(), &side.into(), &"/cart".into())
    );
    let (_, out, _) = running.run(&["explain", "POST", "/orders"]);
    assert!(out.contains("no route claims this request"), "{out}");
}

#[test]
fn explain_refuses_what_the_proxy_refuses() {
    let folder = tempfile::tempdir().unwrap();
    write_settings(folder.path(), Upstream::nobody(), Upstream::nobody());
    for (method, target, answer) in [
        ("GET", "/a%zz", "the answer is 400"),
        ("GET", "users", "the answer is 400"),
        ("GET", "ftp://a/users", "the answer is 400"),
        ("TRACE", "/", "the answer is 501"),
        ("get", "/x", "the answer is 501"),
        ("GET", "http://shop/x", "no route claims this request"),
    ] {
        let (code, out, err) = outcome(facade(folder.path()).args(["explain", method, target]));
        assert!(code == 0 && out.contains(answer), "{method} {target}: {out}{err}");
    }
    let mut command = facade(folder.path());
    command.args(["explain", "GET", "/users/x", "--client-address", "foo"]);
    assert_refused(outcome(&mut command), &["`foo` is no address"]);
}

#[test]
fn a_store_that_is_gone_is_named_with_the_remedy() {
    let running = serve(Upstream::nobody(), Upstream::nobody());
    fs::remove_file(running.folder.path().join("control.db")).unwrap();
    let told = &["control.db is gone", "put it back"];
    assert_refused(running.run(&["flag", "list"]), told);
    assert_refused(running.run(&["flag", "set", "cart", "--reads", "1", "--reason", "r"]), told);
}

#[test]
fn settings_are_checked_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    write_settings(folder.path(), Upstream::nobody(), Upstream::nobody());
    let (code, out, _) = outcome(facade(folder.path()).arg("check"));
    assert!(code == 0 && out.contains("cart, users"), "{out}");
    let (_, out, _) = outcome(facade(folder.path()).arg("routes"));
    assert!(out.contains("/users") && out.contains("path segment of /users/{key}"), "{out}");
    fs::write(folder.path().join("facade.toml"), "workers = 2\nlisten = 'x'\n").unwrap();
    assert_unsound(
        folder.path(),
        &["`monolith`", "--> facade.toml:2:10", "listen = 'x'", "control.path", "has 3 faults"],
    );
    fs::write(folder.path().join("facade.toml"), "worker = 2\n").unwrap();
    assert_unsound(folder.path(), &["unknown setting `worker`; did you mean `workers`", "facade.toml:1:1"]);
    assert!(!folder.path().join("control.db").exists(), "checking created a control store");
}

#[test]
fn private_prefixes_are_shown_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    write_settings(folder.path(), Upstream::nobody(), Upstream::nobody());
    let file = folder.path().join("facade.toml");
    let rest = fs::read_to_string(&file).unwrap();
    let write = |line: &str| fs::write(&file, format!("{line}\n{rest}")).unwrap();
    write("private = ['/replica', '/internal']");
    let (_, out, err) = outcome(facade(folder.path()).args(["routes", "--json"]));
    let routes: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    assert_eq!((&routes[0]["path"], &routes[0]["kind"]), (&"/replica".into(), &"private".into()));
    let (_, out, _) = outcome(facade(folder.path()).arg("routes"));
    assert!(out.contains("/internal") && out.contains("private: 404"), "{out}");
    let (_, out, _) =
        outcome(facade(folder.path()).args(["explain", "PUT", "//%72eplica/users/7", "--json"]));
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&told["route"], &told["upstream"]), (&"/replica".into(), &serde_json::Value::Null));
    assert!(told["why"].as_str().unwrap().contains("private"), "{out}");
    let check = |line: &str, parts: &[&str]| {
        write(line);
        assert_unsound(folder.path(), parts);
    };
    check("private = ['internal']", &["`private[0]`", "`internal`", "begins with `/`"]);
    check("private = ['/users']", &["route 2 `/users`", "`private`"]);
    check("workers = 513", &["`workers`", "at most 512"]);
}

#[test]
fn a_port_in_use_and_an_open_admin_port_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_settings(folder.path(), Upstream::nobody(), Upstream::nobody());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_refused(
        outcome(facade(folder.path()).arg("serve").env("BANYAN_LISTEN", &address)),
        &["cannot listen on", "in use", "listen"],
    );
    assert_refused(
        outcome(facade(folder.path()).arg("serve").env("BANYAN_ADMIN_LISTEN", &address)),
        &["admin_listen"],
    );
    assert_refused(
        outcome(facade(folder.path()).arg("serve").env("BANYAN_ADMIN_LISTEN", "0.0.0.0:0")),
        &["admin_token"],
    );
}

#[test]
fn check_blames_a_variable_and_ends_well_where_nobody_can_be_told() {
    let folder = tempfile::tempdir().unwrap();
    write_settings(folder.path(), Upstream::nobody(), Upstream::nobody());
    let mut check = facade(folder.path());
    check.arg("check").env("BANYAN_ADMIN_LISTEN", "0.0.0.0:0");
    let (code, _, told) = outcome(&mut check);
    assert!(code == 1 && told.contains("(from BANYAN_ADMIN_LISTEN)") && !told.contains("-->"), "{told}");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(check.stderr(full).status().unwrap().code(), Some(1));
}

#[test]
fn a_file_to_start_from_is_written_once_and_works_at_once() {
    let upstream = Upstream::saying("upstream");
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://{}", upstream.address);
    let init = |url: &str, more: &[&str]| {
        outcome(facade(folder.path()).args(["init", "--upstream", url]).args(more))
    };
    assert_refused(init("https://a/b", &[]), &["https://a/b"]);
    let (code, out, err) = init(&url, &[]);
    assert!(code == 0 && out.contains("facade.toml") && err.is_empty(), "{out}{err}");
    assert_refused(init(&url, &[]), &["facade.toml is there already", "--force"]);
    let (code, _, err) = init(&format!("http://{}", Upstream::nobody()), &["--output", "other.toml"]);
    assert!(code == 0 && err.starts_with("warning: ") && err.contains("does not answer"), "{err}");
    assert_refused(init(&url, &["--output", "none/x.toml"]), &["none/x.toml", "a folder that is there"]);
    let (code, _, err) =
        outcome(facade(folder.path()).args(["check", "other.toml", "--config", "facade.toml"]));
    assert!(code == 2 && err.contains("named twice"), "{err}");
    assert_eq!(init(&url, &["--force"]).0, 0);
    let (code, _, err) = outcome(facade(folder.path()).args(["check", "other.toml"]));
    assert_eq!(code, 0, "{err}");
    let mut command = facade(folder.path());
    command.arg("run").envs([("BANYAN_LISTEN", "127.0.0.1:0"), ("BANYAN_ADMIN_LISTEN", "127.0.0.1:0")]);
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.next().unwrap().strip_prefix("listening http://").unwrap().parse().unwrap();
    let admin = lines.next().unwrap();
    let running = Running { folder, process, address, admin };
    let mut wire = Wire::connect(running.address);
    wire.send("GET /any HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(wire.message().unwrap().text(), "upstream");
}

#[test]
fn check_tells_of_a_context_that_the_service_owns_and_no_route_leads_to() {
    let folder = tempfile::tempdir().unwrap();
    let check = |more: &str| {
        let text = format!(
            "[control]\npath = 'control.db'\n[upstreams.monolith]\nurl = 'http://127.0.0.1:1'\n{more}"
        );
        std::fs::write(folder.path().join("facade.toml"), text).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_facade"));
        let output = command.current_dir(folder.path()).arg("check").output().unwrap();
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), told.trim().to_owned())
    };
    let context = "[contexts.cart]\nservice = 'monolith'\n";
    let routed = format!("{context}[[routes]]\nprefix = '/cart'\ncontext = 'cart'\n");
    assert_eq!(check(""), (true, "the settings are sound: 1 upstream, no routes, no contexts".to_owned()));
    assert_eq!(
        check(&routed),
        (true, "the settings are sound: 1 upstream, 1 route, 1 context (cart)".to_owned())
    );
    assert!(!folder.path().join("control.db").exists());
    let settings = control::ControlSettings { path: folder.path().join("control.db"), ..Default::default() };
    let store = control::ControlStore::open(&settings).unwrap();
    store.declare("cart", control::DataMode::Shared).unwrap();
    assert!(check(context).0);
    let change = control::FlagChange { writes: Some(control::Side::Service), ..Default::default() };
    store.set_flag("cart", change, &crate::support::who()).unwrap();
    assert!(check(&routed).0);
    for (settings, place) in [(context, "facade.toml:5:"), ("", "context `cart`: ")] {
        let (is_sound, told) = check(settings);
        assert!(!is_sound && told.contains(place) && told.contains("no route leads to it"), "{told}");
    }
}
