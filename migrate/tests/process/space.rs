//! No room: a file that may not grow stands for a disk that is full, since any user may limit the files of a process.
//!
//! Invariant: nothing of a transaction that found no room is seen, and the same run goes on when there is room again.

use std::process::Command;

use super::world::{End, Engine, World, until};

/// Blocks of 512 bytes that no file may outgrow.
const LIMIT: &str = "trap '' XFSZ; ulimit -S -f 200; exec \"$@\"";

#[test]
fn a_run_that_finds_no_room_waits_and_goes_on_when_there_is_some() {
    let world = World::captured(Engine::Sqlite, 4_000);
    let mut limited = Command::new("/bin/sh");
    limited.args([
        "-c",
        LIMIT,
        "limited",
        env!("CARGO_BIN_EXE_migrate"),
        "run",
        "items",
        "--until-caught-up",
    ]);
    let run = world.start_command(&mut limited, "run items, without room");
    until("it says what it waits for", || run.said().contains("waits:") && run.said().contains("target.db"));
    world.run_sql(End::Source, "UPDATE item SET name = 'meanwhile' WHERE id = 3");
    let lifted =
        Command::new("prlimit").args(["--pid", &run.pid().to_string(), "--fsize=unlimited"]).status();
    assert!(lifted.unwrap().success());
    run.finish().expect_code(0);
    world.assert_settled();
}
