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
            place(9, 1, "key"),
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
