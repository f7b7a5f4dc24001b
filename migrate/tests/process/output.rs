//! Results that cannot be written.
//!
//! Invariant: a result that is lost is no success; one that its reader has seen enough of is.

use std::fs::File;
use std::process::{Command, Output, Stdio};

use super::world::{Engine, World};

const COMMANDS: [&[&str]; 5] = [
    &["completions", "bash"],
    &["config"],
    &["plan", "items", "--json"],
    &["verify", "items"],
    &["status", "items"],
];

fn migrate(world: &World, args: &[&str], stdout: impl Into<Stdio>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_migrate"));
    command.args(args).current_dir(world.path("")).stdout(stdout);
    command.output().unwrap()
}

#[test]
fn a_result_that_finds_no_room_is_told_and_is_no_success() {
    let world = World::copied(Engine::Sqlite, 10);
    for args in COMMANDS {
        let done = migrate(&world, args, File::create("/dev/full").unwrap());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(1), "{args:?}: {said}");
        assert!(
            said.contains("error: the result could not be written to standard output"),
            "{args:?}: {said}"
        );
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let world = World::copied(Engine::Sqlite, 10);
    for args in COMMANDS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = migrate(&world, args, writer);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(0), "{args:?}: {said}");
        assert!(!said.contains("error") && !said.contains("panicked"), "{args:?}: {said}");
    }
}
