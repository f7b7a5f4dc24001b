//! What is found in a file, and where.

use std::path::PathBuf;

use tempfile::TempDir;

use super::{Finding, check};

fn findings(text: &str) -> (Vec<Finding>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("facade.toml");
    std::fs::write(&file, text).unwrap();
    (check(Some(&file)), folder)
}

/// Line, column, and what of the line is marked.
fn places(text: &str) -> Vec<(usize, usize, String)> {
    let of = |finding: &Finding| {
        let (line, column) = (finding.line.unwrap_or(0), finding.column.unwrap_or(0));
        let marked = finding.quote.as_ref().map(|(line, length)| {
            line.chars().skip(column.saturating_sub(1)).take(*length).collect::<String>()
        });
        (line, column, marked.unwrap_or_default())
    };
    findings(text).0.iter().map(of).collect()
}

const SOUND: &str = "[control]\npath = 'control.db'\n[upstreams.monolith]\nurl = 'http://127.0.0.1:1'\n";

fn place(line: usize, column: usize, marked: &str) -> (usize, usize, String) {
    (line, column, marked.to_owned())
}

#[test]
fn sound_settings_have_no_findings() {
    assert_eq!(findings(SOUND).0, []);
}

#[test]
fn each_fault_is_found_where_it_stands() {
    let text = format!(
        "{SOUND}[upstreams.svc]\nurl = 'ftp://x'\n[contexts.users]\nservice = 'nobody'\n\
         key = [{{ header = 'x y' }}]\n# here\n\
         [[routes]]\nprefix = '/a'\ncontext = 'users'\n[[routes]]\nprefix = '/é'\ncontext = 'order'\n[[routes]]\nprefix = '/a'\n"
    );
    assert_eq!(
        places(&text),
        [
            place(6, 7, "'ftp://x'"),
            place(8, 11, "'nobody'"),
            place(9, 8, "{ header = 'x y' }"),
            place(16, 11, "'order'"),
            place(17, 1, "[[routes]]"),
        ]
    );
}

#[test]
fn unknown_names_and_wrong_types_are_found_with_what_was_meant() {
    let text = format!(
        "wrokers = 1\nworkers = 'many'\n{SOUND}[timeouts]\n  conect_ms = 5\n[[routes]]\nprefx = '/'\n"
    );
    let (found, _folder) = findings(&text);
    assert_eq!(
        places(&text),
        [place(1, 1, "wrokers"), place(2, 11, "'many'"), place(8, 3, "conect_ms"), place(10, 1, "prefx"),]
    );
    for (finding, meant) in found.iter().zip(["workers", "", "connect_ms", "prefix"]) {
        assert!(
            meant.is_empty() || finding.message.contains(&format!("did you mean `{meant}`")),
            "{}",
            finding.message
        );
    }
}

#[test]
fn what_cannot_be_read_hides_nothing_else() {
    let text = format!("{SOUND}[upstreams.svc]\nurl = 5\n[contexts.users]\nservice = 'nobody'\nkeys = []\n");
    assert_eq!(places(&text), [place(6, 7, "5"), place(8, 11, "'nobody'"), place(9, 1, "keys")]);
}

#[test]
fn faults_of_the_whole_are_found_where_they_stand() {
    for (text, mark) in [
        ("[tls]\ncertificate = 'a.pem'", "'a.pem'"),
        ("[jwt.main]", "[jwt.main]"),
        ("[[routes]]\nprefix = '/a'\njwt = { provider = 'who' }", "jwt"),
        ("[upstreams.two]\nurl = 'http://a'\ninstances = ['http://b']", "'http://a'"),
        ("[upstreams.two]\nurl = 'http://a:0'", "'http://a:0'"),
        ("[upstreams.two]\nurl = 'http://256.1.1.1:1'", "'http://256.1.1.1:1'"),
        ("[upstreams.'']\nurl = 'http://a'", "upstreams"),
        ("[limits]\nbody_bytes = 99999999999999999999", "99999999999999999999"),
    ] {
        let text = format!("{SOUND}{text}\n");
        let [(line, _, ref marked)] = places(&text)[..] else { panic!("{text}: {:?}", findings(&text).0) };
        assert!(line > 0 && mark.contains(marked.as_str()), "{text}: {line} {marked}");
    }
    for (control, mark) in [
        ("path = 'a.db'\nurl = 'postgres://h/n'", 1),
        ("url = 'postgres://h/n?sslmode=require'", 1),
        ("path = '/nonexistent/a.db'", 1),
    ] {
        let text = format!("[upstreams.monolith]\nurl = 'http://127.0.0.1:1'\n[control]\n{control}\n");
        assert_eq!(places(&text).len(), mark, "{control}");
        assert!(places(&text)[0].0 > 3, "{control}");
    }
    let tls = "[tls]\nlisten = '127.0.0.1:0'\ncertificate = 'gone.pem'\nkey = 'gone.key'\n";
    assert_eq!(places(&format!("{SOUND}{tls}")), [place(7, 15, "'gone.pem'"), place(8, 7, "'gone.key'")]);
    let taken = "listen = '127.0.0.1:8080'\nadmin_listen = '127.0.0.1:8080'\n";
    assert_eq!(places(&format!("{taken}{SOUND}")), [place(2, 16, "'127.0.0.1:8080'")]);
    let taken = taken.replacen("127.0.0.1", "0.0.0.0", 1);
    assert_eq!(places(&format!("{taken}{SOUND}")), [place(2, 16, "'127.0.0.1:8080'")]);
}

#[test]
fn every_bad_entry_of_a_list_is_told() {
    let text = format!(
        "private = ['a', 'b']\n{SOUND}[forwarded]\ntrusted = ['10.0.0.0/33', '::1', 'foo']\n\
         [[routes]]\nprefix = '/a'\nmethods = ['get', 'GET', 'BAD METHOD']\n"
    );
    let marked: Vec<_> = places(&text).into_iter().map(|(_, _, marked)| marked).collect();
    assert_eq!(marked, ["'a'", "'b'", "'10.0.0.0/33'", "'foo'", "methods"]);
    let (found, _folder) = findings(&text);
    let methods = &found.last().unwrap().message;
    assert!(methods.contains("`get` is no method, `BAD METHOD` is no method"), "{methods}");
}

#[test]
fn a_file_that_cannot_be_read_is_the_only_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("latin.toml");
    std::fs::write(&file, b"listen = 'caf\xe9'").unwrap();
    for (path, told) in [(&*file, "latin.toml"), (folder.path(), "it is a folder")] {
        let found = check(Some(path));
        assert!(found.len() == 1 && found[0].message.contains(told), "{found:?}");
    }
}

#[test]
fn long_values_are_shortened() {
    let (found, _folder) = findings(&format!("listen = '{}'\n{SOUND}", "x".repeat(100_000)));
    let shown: String = found.iter().map(ToString::to_string).collect();
    assert!(shown.contains("setting `listen`") && shown.len() < 2_000, "{}", shown.len());
}

#[test]
fn a_broken_line_is_shown_without_its_texts() {
    let (found, _folder) = findings("listen = 'a' b\n");
    let shown = found.first().unwrap().to_string();
    assert!(shown.contains("1 | listen = *****\n"), "{shown}");
}

#[test]
fn what_is_no_toml_is_found_too() {
    let [(line, column, _)] = places("listen = 'a'\nworkers = = 1\n")[..] else { panic!("one fault") };
    assert_eq!((line, column), (2, 11));
}

#[test]
fn no_secret_is_shown() {
    for text in [
        "overrides = { secret = 'hunter2', header = 'x y' }\n",
        "overrides = { secret = 'hunter2', heder = 'x' }\n",
        "[overrides]\nsecret = 'hunter2'\n",
        "[overrides]\nsecrt = 'hunter2'\n",
        "admin_token = 'hunter2\n",
        "admin_token = [\"hunter2\"\n",
    ] {
        let (found, _folder) = findings(text);
        assert!(!found.is_empty());
        let shown: String = found.iter().map(ToString::to_string).collect();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_finding_is_shown_with_a_mark_under_it() {
    let (found, _folder) = findings(&format!("workers = 600\n{SOUND}"));
    let shown = found.first().unwrap().to_string();
    let lines: Vec<_> = shown.lines().collect();
    assert!(
        lines[0].starts_with("error: setting `workers` is 600") && lines[1].ends_with("facade.toml:1:11"),
        "{shown}"
    );
    assert_eq!(lines[2..], ["  |", "1 | workers = 600", "  |           ^^^"]);
}
