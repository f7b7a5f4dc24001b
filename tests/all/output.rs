//! Results that cannot be written.
//!
//! Invariant: a result that is lost is no success; one that its reader has seen enough of is.

use std::fs::File;
use std::process::{Command, Output, Stdio};

use harness::Binaries;

const COMMANDS: [&[&str]; 2] = [&["completions", "bash"], &["config"]];

fn run(name: &str, args: &[&str], stdout: impl Into<Stdio>) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(Binaries::find().unwrap().path(name));
    command.args(args).current_dir(folder.path()).stdout(stdout);
    command.output().unwrap()
}

#[test]
fn every_program_tells_of_a_result_that_found_no_room() {
    for (name, args) in Binaries::NAMES.iter().flat_map(|name| COMMANDS.map(|args| (name, args))) {
        let done = run(name, args, File::create("/dev/full").unwrap());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(1), "{name} {args:?}: {said}");
        assert!(
            said.starts_with("error: the result could not be written to standard output"),
            "{name} {args:?}: {said}"
        );
    }
}

#[test]
fn no_program_minds_a_reader_that_has_seen_enough() {
    for (name, args) in Binaries::NAMES.iter().flat_map(|name| COMMANDS.map(|args| (name, args))) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = run(name, args, writer);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(0) && said.is_empty(), "{name} {args:?}: {said}");
    }
}
