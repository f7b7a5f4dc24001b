//! Committed files that are made from the sources agree with them.
//!
//! Invariant: a stale file fails here and says which command renews it.

use std::fs;

use harness::{binaries, context_map};

#[test]
fn the_context_map_is_the_one_of_the_sources() {
    let committed = fs::read_to_string(binaries::workspace().join(context_map::FILE)).unwrap_or_default();
    let current = context_map::render().unwrap();
    assert_eq!(committed, current, "{} is stale; run `cargo xtask docs` and commit it", context_map::FILE);
}
