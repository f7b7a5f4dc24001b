//! House rules that no lint knows, checked over the text of every file.
//!
//! Invariant: each rule has a test that breaks it, so none of them can fall silent.

use std::fs;
use std::path::{Path, PathBuf};

use harness::binaries;

/// Lines after which a file tells more than one thing.
const LINES_MAX: usize = 500;

/// Put together from halves, so that this file keeps its own rules.
const BANNED: [(&str, &str); 5] = [
    (concat!("#[al", "low"), "use #[expect] with a reason"),
    (concat!("#![al", "low"), "use #![expect] with a reason"),
    (concat!("to", "do!("), "finish it or leave it out"),
    (concat!("unimple", "mented!("), "finish it or leave it out"),
    (concat!("#[ig", "nore"), "a test that does not run proves nothing"),
];

/// Folders of one machine.
const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/")];

/// The faults of one file, given by its path from the workspace's root.
fn faults(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if MACHINE_PATHS.iter().any(|machine| text.contains(machine)) {
        faults.push("names a folder of one machine".to_owned());
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    if name == "clippy.toml" && path != "clippy.toml" {
        faults.push("replaces the workspace's lint settings instead of adding to them".to_owned());
    }
    if !path.ends_with(".rs") {
        return faults;
    }
    if !text.starts_with("//!") {
        faults.push("does not start with a //! that says what it is".to_owned());
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        faults.push(format!("has {lines} lines; {LINES_MAX} are the most"));
    }
    let banned = BANNED.iter().filter(|(word, _)| text.contains(word));
    faults.extend(banned.map(|(word, remedy)| format!("contains `{word}`: {remedy}")));
    faults
}

/// What a schema change consists of.
const SCRIPTS: [&str; 4] = ["up.sqlite.sql", "down.sqlite.sql", "up.postgres.sql", "down.postgres.sql"];

/// Every schema change can be taken back, in both databases.
fn migration_faults(folder: &str, files: &[String]) -> Vec<String> {
    let has = |name: &str| files.iter().any(|file| file == name);
    let missing = SCRIPTS.into_iter().filter(|name| !has(name));
    missing.map(|name| format!("{folder} has no {name}")).collect()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn is_generated(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    ["target", ".git", "mutants.out", "proptest-regressions"].contains(&name.as_ref())
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in children(folder).into_iter().filter(|path| !is_generated(path)) {
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

fn project_files() -> Vec<(String, PathBuf)> {
    let root = binaries::workspace();
    let mut found = Vec::new();
    files_below(root, &mut found);
    let relative = |path: &PathBuf| path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
    found.into_iter().map(|path| (relative(&path), path)).collect()
}

#[test]
fn every_file_keeps_the_house_rules() {
    let mut told = Vec::new();
    let mut seen = 0;
    for (name, path) in project_files() {
        // What is no text (archives, databases) has no rules.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        seen += usize::from(name.ends_with(".rs"));
        told.extend(faults(&name, &text).into_iter().map(|fault| format!("{name} {fault}")));
    }
    assert!(seen > 20, "only {seen} source files were found; the walk is broken");
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn every_schema_change_can_be_taken_back() {
    let files = project_files();
    let folder_of = |name: &str| name.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    let changes: std::collections::BTreeSet<String> = files
        .iter()
        .filter_map(|(name, _)| folder_of(name))
        .filter(|folder| folder_of(folder).is_some_and(|parent| parent.ends_with("migrations")))
        .collect();
    let mut told = Vec::new();
    for change in &changes {
        let inside = files.iter().filter_map(|(name, _)| name.strip_prefix(&format!("{change}/")));
        told.extend(migration_faults(change, &inside.map(str::to_owned).collect::<Vec<_>>()));
    }
    assert!(!changes.is_empty(), "no folder of schema changes was found; the walk is broken");
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn each_rule_can_be_broken() {
    let cases = [
        ("a/src/lib.rs", "fn main() {}".to_owned(), "does not start with"),
        ("a/src/lib.rs", format!("//! It.\n{}", "\n".repeat(LINES_MAX)), "lines"),
        ("a/src/lib.rs", format!("//! It.\n{}(dead_code)]", BANNED[0].0), "expect"),
        ("a/src/lib.rs", format!("//! It.\n{})", BANNED[2].0), "finish it"),
        ("a/src/lib.rs", format!("//! It.\n{}]", BANNED[4].0), "does not run"),
        ("docs/a.md", format!("see {}x", MACHINE_PATHS[0]), "one machine"),
        ("a/clippy.toml", String::new(), "replaces"),
    ];
    for (path, text, part) in cases {
        let found = faults(path, &text);
        assert!(found.len() == 1 && found[0].contains(part), "{path}: {found:?}");
    }
    assert_eq!(faults("a/src/lib.rs", "//! It.\nfn main() {}\n"), Vec::<String>::new());
}

#[test]
fn a_schema_change_without_its_reverse_is_a_fault() {
    let all = SCRIPTS.map(str::to_owned);
    assert_eq!(migration_faults("m/1", &all[..3]), ["m/1 has no down.postgres.sql"]);
    assert!(migration_faults("m/1", &all).is_empty());
}
