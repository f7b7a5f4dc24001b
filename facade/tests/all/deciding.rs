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
    assert_eq!(ask(&fixture, "GET", &cookie).text(), "service");
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
