//! Overrides of testers and pins of operators, over real sockets.

use std::process::Command;

use control::{Side, now_ms};
use facade::overrides::sign;
use facade::settings::{OverrideSettings, Settings};
use platform::settings::Secret;
use serde_json::json;

use crate::served::Served;
use crate::support::{Fixture, Message, Upstream, eventually, who};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn overrides() -> OverrideSettings {
    OverrideSettings { secret: Secret::new(SECRET), ..OverrideSettings::default() }
}

fn signed(side: Side) -> String {
    sign(&overrides(), "users", side, now_ms() / 1000 + 60).token
}

fn with_secret(settings: &mut Settings) {
    settings.overrides = overrides();
}

fn ask(fixture: &Fixture, method: &str, header: &str) -> Message {
    fixture.request(&format!("{method} /users HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n{header}\r\n\r\n"))
}

#[test]
fn a_signed_header_or_cookie_chooses_the_side_of_a_read_and_never_of_a_write() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let fixture = Fixture::with(monolith.address, service.address, with_secret);
    let (to_service, to_monolith) = (signed(Side::Service), signed(Side::Monolith));
    let header = format!("Banyan-Override: other.service.1.x, {to_service}");
    let cookie = format!("cookie: a=b; banyan-override-users={to_service}");
    assert_eq!(ask(&fixture, "GET", &header).text(), "service");
    assert_eq!(service.seen()[0].header("banyan-override"), None, "the service got what was signed");
    assert_eq!(ask(&fixture, "GET", &cookie).text(), "service");
    assert_eq!(service.seen()[1].all("cookie"), ["a=b"], "the service got what was signed");
    assert_eq!(ask(&fixture, "PUT", &header).text(), "monolith");
    let expired = sign(&overrides(), "users", Side::Service, now_ms() / 1000 - 1).token;
    assert_eq!(ask(&fixture, "GET", &format!("banyan-override: {expired}")).text(), "monolith");
    assert_eq!(ask(&fixture, "GET", &format!("banyan-override: {to_service}x")).text(), "monolith");
    fixture.set("100", Some(Side::Service));
    let home = format!("banyan-override: {to_monolith}");
    assert_eq!(ask(&fixture, "GET", &home).text(), "service");
    assert_eq!(ask(&fixture, "PUT", &home).text(), "service");
}

#[test]
fn without_a_secret_nothing_is_overridden() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let fixture = Fixture::new(monolith.address, service.address);
    assert_eq!(
        ask(&fixture, "GET", &format!("banyan-override: {}", signed(Side::Service))).text(),
        "monolith"
    );
}

#[test]
fn a_pinned_key_stays_while_the_weight_moves() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let fixture = Fixture::new(monolith.address, service.address);
    for (key, side) in [("anna", Side::Service), ("bert", Side::Monolith)] {
        fixture.store.set_pin("users", key, Some(side), &who()).unwrap();
    }
    let of = |key: &str| fixture.get(&format!("/users/{key}")).text();
    assert_eq!((of("anna").as_str(), of("bert").as_str()), ("monolith", "monolith"));
    for weight in ["0.01", "100"] {
        fixture.set(weight, None);
        assert_eq!((of("anna").as_str(), of("bert").as_str()), ("service", "monolith"), "{weight}");
    }
    fixture.set("100", Some(Side::Service));
    assert_eq!(of("bert"), "service");
    fixture.set("50", Some(Side::Monolith));
    assert_eq!(of("bert"), "monolith", "a pin waits while it does not count");
    fixture.set("100", None);
    fixture.store.set_pin("users", "bert", None, &who()).unwrap();
    eventually("the key goes where the weight says", || of("bert") == "service");
}

#[test]
fn an_override_is_printed_and_explained() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[control]\npath = 'control.db'\n[overrides]\nsecret = '{SECRET}'\n[upstreams.monolith]\n\
         url = 'http://127.0.0.1:1'\n[contexts.users]\nservice = 'monolith'\n\
         [[routes]]\nprefix = '/users'\ncontext = 'users'\n"
    );
    std::fs::write(folder.path().join("facade.toml"), text).unwrap();
    let facade = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_facade"));
        let output = command.current_dir(folder.path()).args(arguments).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let header = facade(&["override", "--context", "users", "--side", "service", "--for", "2h", "--header"]);
    let told = facade(&["explain", "GET", "/users/1", "-H", header.trim()]);
    assert!(told.contains("a signed override asks for the service"), "{told}");
    let told = facade(&["explain", "POST", "/users/1", "-H", header.trim()]);
    assert!(told.contains("refused: only the owner takes writes"), "{told}");
    let forged = header.trim().replace("service", "monolith");
    assert!(facade(&["explain", "GET", "/users/1", "-H", &forged]).contains("ignored: its signature"));
    let both = facade(&["override", "--context", "users", "--side", "service"]);
    assert!(
        both.contains("Cookie: banyan-override-users=users.service.") && both.contains("valid until"),
        "{both}"
    );
    for (arguments, part) in [
        (["--context", "user", "--side", "service", "--for", "1h"], "unknown context `user`"),
        (["--context", "users", "--side", "both", "--for", "1h"], "not a side"),
        (["--context", "users", "--side", "service", "--for", "31d"], "30d"),
        (["--context", "users", "--side", "service", "--for", "soon"], "no duration"),
    ] {
        let told = facade(&[&["override"][..], &arguments].concat());
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn pins_are_set_and_removed_by_commands_and_stand_in_the_audit_trail() {
    let served = Served::start(Upstream::saying("monolith").address, Upstream::saying("service").address, "");
    let facade = |arguments: &[&str]| {
        let output = served.run(arguments);
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let run = |arguments: &[&str]| {
        let (is_done, told) = facade(arguments);
        assert!(is_done, "{arguments:?}: {told}");
        told
    };
    let because = ["--reason", "their export breaks"];
    let told = run(&[&["pin", "set", "cart", "a/b \"c\"", "service"][..], &because].concat());
    assert!(told.contains("stay at the service once reads are above 0 %"), "{told}");
    run(&["flag", "set", "cart", "--reads", "1", "--reason", "r"]);
    run(&[&["pin", "set", "cart", "42", "service"][..], &because].concat());
    let told = run(&[&["pin", "set", "cart", "42", "monolith"][..], &because].concat());
    assert_eq!(told.trim(), "reads of the key 42 of cart stay at the monolith");
    let pins: serde_json::Value = serde_json::from_str(&run(&["pin", "list", "cart", "--json"])).unwrap();
    let pins: Vec<_> =
        pins.as_array().unwrap().iter().map(|pin| (&pin["key"], &pin["side"], &pin["actor"])).collect();
    assert_eq!(
        pins,
        [
            (&json!("42"), &json!("monolith"), &json!("ann")),
            (&json!("a/b \"c\""), &json!("service"), &json!("ann"))
        ]
    );
    let rows = served.ask("GET", "/api/v1/audit?context=cart&limit=1", "", "").json();
    let row = &rows["items"][0];
    assert_eq!(
        [&row["action"], &row["from_state"], &row["to_state"], &row["reason"], &row["actor"]],
        ["pin", "key 42 pinned to the service", "key 42 pinned to the monolith", because[1], "ann"]
    );
    let explain = |key: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_facade"));
        let header = format!("x-key: {key}");
        command.current_dir(served.folder.path()).args(["explain", "GET", "/cart", "-H", &header]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(explain("42").contains("the key is pinned to the monolith"), "{}", explain("42"));
    run(&["flag", "set", "cart", "--reads", "0", "--reason", "r"]);
    let told = explain("42");
    assert!(told.contains("reads are at 0 %") && told.contains("pin to the monolith counts once"), "{told}");
    for (arguments, part) in [
        (["pin", "set", "cart", "7", "both"].as_slice(), "not a side"),
        (["pin", "set", "cart", "", "service"].as_slice(), "a key is 1 to"),
        (["pin", "set", "card", "7", "service"].as_slice(), "unknown context `card`"),
        (["pin", "remove", "cart", "7"].as_slice(), "is not pinned"),
    ] {
        let (is_done, told) = facade(&[arguments, &because[..]].concat());
        assert!(!is_done && told.contains(part), "{told}");
    }
    let (is_done, told) = facade(&["pin", "set", "cart", "7", "service"]);
    assert!(!is_done && told.contains("--reason"), "{told}");
    run(&[&["pin", "remove", "cart", "42"][..], &because].concat());
    let rows = served.ask("GET", "/api/v1/audit?limit=1", "", "").json();
    assert_eq!(rows["items"][0]["to_state"], "key 42 by weight");
    assert_eq!(served.ask("GET", "/api/v1/pins", "", "").json()["items"].as_array().unwrap().len(), 1);
}
