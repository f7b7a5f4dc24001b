//! Where the control store is, as an operator writes it down.

use std::fs;
use std::process::Command;

const UPSTREAM: &str = "[upstreams.monolith]\nurl = 'http://127.0.0.1:1'\n";

/// What a command says to these settings of the control store: standard output and standard error.
fn told(command: &str, control: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("facade.toml"), format!("[control]\n{control}\n{UPSTREAM}")).unwrap();
    let mut facade = Command::new(env!("CARGO_BIN_EXE_facade"));
    let output = facade.current_dir(folder.path()).arg(command).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn a_store_that_is_named_wrongly_is_refused_with_the_remedy() {
    for (control, words) in [
        ("", "neither control.path nor control.url is set"),
        ("path = 'a.db'\nurl = 'postgres://h/n'", "leave one away"),
        ("url = 'postgres://me:hush@h/n?sslmode=require'", "write sslmode=disable"),
        ("url = 'mysql://me:hush@h/n'", "postgres://user:password@host:port/name"),
    ] {
        let (out, err) = told("check", control);
        assert!(out.is_empty() && err.contains(words) && !err.contains("hush"), "{control}: {out}{err}");
    }
}

#[test]
fn the_password_of_the_store_is_never_printed() {
    let url = "url = 'postgres://me:hush@127.0.0.1:1/flags'";
    for command in ["config", "check", "serve"] {
        let (out, err) = told(command, url);
        assert!(!out.contains("hush") && !err.contains("hush"), "{command}: {out}{err}");
    }
    let (_, err) = told("serve", url);
    assert!(err.contains("127.0.0.1:1/flags"), "{err}");
}
