//! A facade that starts while its control store cannot be reached goes on with the copy of the last known flags.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use control::{ControlSettings, ControlStore, FlagChange, Side};
use pg_harness::Mode;

use crate::fleet::{Fleet, On};
use crate::served::Served;
use crate::support::{Message, Upstream, Wire, eventually, who};

fn store(served: &Served) -> ControlStore {
    let path = served.folder.path().join("control.db");
    ControlStore::open_existing(&ControlSettings { path, ..ControlSettings::default() }).unwrap()
}

fn to_service(reads: &str) -> FlagChange {
    FlagChange { reads: Some(reads.parse().unwrap()), writes: Some(Side::Service), force: false }
}

fn ask(served: &Served, method: &str, path: &str) -> Message {
    let mut wire = Wire::connect(served.address);
    wire.send(format!("{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nx-key: 7\r\n\r\n"));
    wire.message().unwrap()
}

fn health(served: &Served) -> serde_json::Value {
    let answer = served.ask("GET", "/health/ready", "", "");
    assert_eq!(answer.status(), 200, "it serves");
    answer.json()
}

/// Takes the store's files out of the way, or back.
fn move_store(served: &Served, from: &str, to: &str) {
    for more in ["", "-wal", "-shm"] {
        let at = |name: &str| served.folder.path().join(format!("{name}{more}"));
        if at(from).exists() {
            fs::rename(at(from), at(to)).unwrap();
        }
    }
}

#[test]
fn the_copied_flags_go_on_and_no_write_goes_where_the_owner_may_have_changed() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let mut served = Served::start(monolith.address, service.address, "");
    let control = store(&served);
    control.set_flag("cart", to_service("100"), &who()).unwrap();
    let token = control.set_pin("cart", "7", Some(Side::Monolith), &who()).unwrap().token;
    control.set_dual_write("users", true, &who()).unwrap();
    drop(control);
    let copy = served.folder.path().join("control.db.flags.json");
    eventually("the flags are copied", || {
        let text = fs::read_to_string(&copy).unwrap_or_default();
        text.contains(&format!("\"token\":{token}")) && text.contains("\"dual_write\":true")
    });
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    move_store(&served, "control.db", "away.db");
    served.start_again();
    assert_eq!(ask(&served, "GET", "/cart").text(), "service");
    assert_eq!(ask(&served, "PUT", "/cart").text(), "service", "with one database no write is lost");
    assert_eq!(ask(&served, "GET", "/users/1").text(), "monolith");
    let seen = monolith.seen().len();
    let refused = ask(&served, "PUT", "/users/1");
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("5")));
    assert_eq!(monolith.seen().len(), seen, "the write was forwarded");
    let told = health(&served);
    let text = told.to_string();
    assert_eq!(told["status"], "degraded");
    assert!(text.contains("from a copy that is") && text.contains("writes of users are refused"), "{text}");
    let metrics = served.ask("GET", "/metrics", "", "").text();
    assert!(metrics.contains("\nbanyan_facade_flags_copied 1\n"), "{metrics}");
    assert!(metrics.contains("\nbanyan_facade_control_store_reading_age_seconds "), "{metrics}");
    assert_eq!(served.ask("GET", "/api/v1/flags", "", "").status(), 503);
    assert!(!served.folder.path().join("control.db").exists(), "a store was made that knows of no move");

    move_store(&served, "away.db", "control.db");
    eventually("the facade is well again", || health(&served)["status"] == "ok");
    assert_eq!(ask(&served, "PUT", "/users/1").text(), "monolith");
    let control = store(&served);
    let token =
        control.set_flag("cart", FlagChange { writes: Some(Side::Monolith), ..to_service("50") }, &who());
    let token = token.unwrap().token;
    eventually("changes are followed and acknowledged", || {
        let instances = control.instances().unwrap();
        let is_acked = |ack: &control::Ack| ack.context == "cart" && ack.token == token;
        instances.iter().any(|instance| instance.live && instance.acks.iter().any(is_acked))
    });
    assert_eq!(ask(&served, "GET", "/cart").text(), "monolith", "the pin counts");
}

#[test]
fn a_token_that_the_store_has_gone_past_is_never_acknowledged() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let mut served = Served::start(monolith.address, service.address, "");
    let control = store(&served);
    let old = control.set_flag("cart", to_service("100"), &who()).unwrap().token;
    let copy = served.folder.path().join("control.db.flags.json");
    eventually("the flags are copied", || {
        fs::read_to_string(&copy).unwrap_or_default().contains(&format!("\"token\":{old}"))
    });
    served.kill();
    let home = FlagChange { writes: Some(Side::Monolith), ..to_service("0") };
    let token = control.set_flag("cart", home, &who()).unwrap().token;
    for instance in control.instances().unwrap() {
        control.retire(&instance.instance).unwrap();
    }
    drop(control);
    move_store(&served, "control.db", "away.db");
    served.start_again();
    assert_eq!(ask(&served, "GET", "/cart").text(), "service", "nobody can know better");
    move_store(&served, "away.db", "control.db");
    let control = store(&served);
    let mut told = Vec::new();
    eventually("what the store says is acknowledged", || {
        let instances = control.instances().unwrap();
        let acks = instances.iter().flat_map(|instance| &instance.acks).filter(|ack| ack.context == "cart");
        told.extend(acks.map(|ack| ack.token));
        told.last() == Some(&token)
    });
    assert!(!told.contains(&old), "{told:?}");
    assert_eq!(ask(&served, "GET", "/cart").text(), "monolith");
}

#[test]
fn without_a_copy_or_with_it_off_a_facade_does_not_start_without_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let run = |more: &str| {
        let text = format!(
            "listen = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\n[control]\n\
             url = 'postgres://nobody@127.0.0.1:1/none'\n[upstreams.monolith]\nurl = 'http://127.0.0.1:1'\n{more}"
        );
        fs::write(folder.path().join("facade.toml"), text).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_facade"));
        let output = command.current_dir(folder.path()).arg("serve").output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let copy = r#"{"form":1,"store":"127.0.0.1:1/none","confirmed_ms":1,"flags":[]}"#;
    for (copied, more) in
        [("", ""), (copy, "[flags_copy]\nenabled = false\n"), (&copy.replace("none", "other"), "")]
    {
        fs::write(folder.path().join("facade.flags.json"), copied).unwrap();
        let (is_done, told) = run(more);
        assert!(!is_done && told.contains("cannot open the control store"), "{told}");
    }
}

#[test]
fn a_facade_that_is_started_while_the_server_is_gone_follows_it_once_it_is_back() {
    let mut fleet = Fleet::start(On::Postgres);
    let change = FlagChange { writes: Some(Side::Monolith), ..to_service("100") };
    let token = fleet.store.set_flag("items", change, &who()).unwrap().token;
    let acked = |fleet: &Fleet, token: i64, count: usize| {
        let instances = fleet.store.instances().unwrap_or_default();
        let serves = |ack: &control::Ack| ack.context == "items" && ack.token == token;
        instances.iter().filter(|one| one.live && one.acks.iter().any(serves)).count() == count
    };
    eventually("every facade serves it", || acked(&fleet, token, 3));
    let copy = fleet.file("facade.flags.json");
    eventually("the flags are copied", || {
        fs::read_to_string(&copy).unwrap_or_default().contains(&format!("\"token\":{token}"))
    });
    fleet.cluster.as_ref().unwrap().stop(Mode::Immediate).unwrap();
    fleet.facades.remove(0).kill();
    fleet.add();
    let new = fleet.facades.last().unwrap();
    assert_eq!(new.side(7), "service");
    assert_eq!(new.admin("/health/ready").json()["status"], "degraded");
    let mut wire = Wire::connect(new.address);
    wire.send("PUT /moves HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(wire.message().unwrap().status(), 503);
    fleet.cluster.as_ref().unwrap().start_again().unwrap();
    eventually("every facade is well again", || {
        fleet.facades.iter().all(|facade| facade.admin("/health/ready").json()["status"] == "ok")
    });
    wire.send("PUT /moves HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(wire.message().unwrap().status(), 200);
    eventually("every facade acknowledges", || acked(&fleet, token, 3));
}
