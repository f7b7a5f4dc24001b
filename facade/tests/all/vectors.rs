//! The published test vectors of the sticky bucket are true.

use control::bucket;

const PAGE: &str = include_str!("../../../docs/sticky-routing.md");

#[test]
fn the_published_vectors_are_what_is_computed() {
    let rows: Vec<Vec<&str>> = PAGE
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    assert!(rows.len() >= 20, "{} vectors are published", rows.len());
    for row in rows {
        let key = row[1].replace("(empty)", "");
        assert_eq!(bucket(row[0], key.as_bytes()).to_string(), row[2], "{} {key}", row[0]);
    }
}
