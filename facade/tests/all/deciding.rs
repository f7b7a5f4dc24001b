//! Overrides of testers and pins of operators, over real sockets.

use std::process::Command;

use control::{Side, now_ms};
use facade::overrides::sign;
use facade::settings::{OverrideSettings, PinSettings, Settings};
use platform::settings::Secret;

use crate::support::{Fixture, Message, Upstream};

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
    let fixture = Fixture::with(monolith.address, service.address, |settings| {
        let pin = |key: &str, side: &str| PinSettings { key: key.to_owned(), side: side.to_owned() };
        settings.contexts.get_mut("users").unwrap().pins =
            vec![pin("anna", "service"), pin("bert", "monolith")];
    });
    let of = |key: &str| fixture.get(&format!("/users/{key}")).text();
    assert_eq!((of("anna").as_str(), of("bert").as_str()), ("monolith", "monolith"));
    for weight in ["0.01", "100"] {
        fixture.set(weight, None);
        assert_eq!((of("anna").as_str(), of("bert").as_str()), ("service", "monolith"), "{weight}");
    }
    fixture.set("100", Some(Side::Service));
    assert_eq!(of("bert"), "service");
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
fn pins_are_added_and_removed_in_the_file_and_the_rest_of_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let text = "# mine\n[control]\npath = 'control.db'\n[upstreams.monolith]\nurl = 'http://127.0.0.1:1'\n\
        [contexts.users] # here\nservice = 'monolith'\nkey = [{ header = 'x-key' }]\n\
        [contexts.cart]\nservice = 'monolith'\nkey = [{ header = 'x-key' }]\npins = [{ key = 'c', side = 'service' }]\n\
        [[routes]]\nprefix = '/users'\ncontext = 'users'\n";
    let file = folder.path().join("facade.toml");
    std::fs::write(&file, text).unwrap();
    let facade = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_facade"));
        let output = command.current_dir(folder.path()).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let run = |arguments: &[&str]| {
        let (is_done, told) = facade(arguments);
        assert!(is_done, "{told}");
        told
    };
    run(&["pin", "add", "users", "a \"b\"", "service"]);
    run(&["pin", "add", "users", "42", "service"]);
    run(&["pin", "add", "users", "42", "monolith"]);
    run(&["pin", "add", "cart", "d", "monolith"]);
    let pins: serde_json::Value = serde_json::from_str(&run(&["pin", "list", "--json"])).unwrap();
    let pins: Vec<_> = pins.as_array().unwrap().iter().map(|pin| format!("{}", pin["key"])).collect();
    assert_eq!(pins, [r#""c""#, r#""d""#, r#""a \"b\"""#, r#""42""#]);
    let told = run(&["explain", "GET", "/users", "-H", "x-key: 42"]);
    assert!(told.contains("pin") && told.contains("monolith"), "{told}");
    for (arguments, part) in [
        (&["pin", "add", "users", "7", "both"][..], "not a side"),
        (&["pin", "add", "user", "7", "service"][..], "no context `user`"),
        (&["pin", "remove", "users", "7"][..], "is not pinned"),
    ] {
        let (is_done, told) = facade(arguments);
        assert!(!is_done && told.contains(part), "{told}");
    }
    run(&["pin", "remove", "users", "42"]);
    run(&["pin", "remove", "users", "a \"b\""]);
    run(&["pin", "remove", "cart", "d"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
