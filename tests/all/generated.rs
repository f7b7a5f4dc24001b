//! Committed files that are made from the sources agree with them.
//!
//! Invariant: a stale file fails here and says which command renews it.

use std::fs;

use harness::{Binaries, binaries, configuration, context_map};

fn assert_current(file: &str, current: &str) {
    let committed = fs::read_to_string(binaries::workspace().join(file)).unwrap_or_default();
    assert_eq!(committed, current, "{file} is stale; run `cargo xtask docs` and commit it");
}

#[test]
fn the_context_map_is_the_one_of_the_sources() {
    assert_current(context_map::FILE, &context_map::render().unwrap());
}

#[test]
fn the_configuration_is_the_one_that_the_programs_tell() {
    let binaries = Binaries::find().unwrap();
    assert_current(configuration::FILE, &configuration::render(&binaries).unwrap());
}
