//! The query by which an operator says how busy the source is.
//!
//! Invariant: it changes nothing, however it is written.

use super::world::{World, plain};
use crate::engine::Source as _;

const TABLE: &str = "CREATE TABLE item (id int PRIMARY KEY, name text)";

#[test]
fn a_load_query_is_one_that_reads_a_number_and_ends() {
    let world = World::new(TABLE, TABLE, vec![plain("item", &["id", "name"])]);
    let mut source = world.source_end();
    for (query, load) in [
        ("SELECT 2.5", 2.5),
        ("SELECT count(*) FROM item;", 0.0),
        ("WITH a AS (SELECT 7) TABLE a", 7.0),
        ("SELECT 1e3::float8, 'more'", 1_000.0),
    ] {
        assert_eq!(source.measure(query).unwrap(), load, "{query}");
    }
    for (query, said) in [
        ("INSERT INTO item VALUES (1) RETURNING id", "it writes, and a load is only read"),
        ("WITH a AS (INSERT INTO item VALUES (1) RETURNING id) SELECT id FROM a", "it writes"),
        ("SELECT 1; DROP TABLE item", "multiple commands"),
        ("SELECT 1 FROM item FOR UPDATE", "it writes"),
        ("SELECT pg_sleep(100)", "it took more than 5000 ms"),
        ("SELECT nope", "column \"nope\" does not exist"),
        ("SELECT 'x'", "it gives x, which is no number"),
        ("SELECT 'NaN'::float8", "it gives NaN"),
        ("SELECT null", "it gives nothing"),
        ("", "it gives nothing"),
    ] {
        let error = source.measure(query).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{query}: {error}");
        assert!(error.to_string().contains(said), "{query}: {error}");
    }
    assert_eq!(world.source.run("SELECT count(*) FROM item").unwrap(), "0");
}
