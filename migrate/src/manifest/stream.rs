//! A manifest's mappings as the engine takes them.
//!
//! Invariant: the way there and the way back are two streams with names of their own, so their positions never mix.

use super::{Manifest, TableMap};
use crate::engine::{Mapping, Stream};
use crate::error::MigrateError;
use crate::flow::{End, Flow};

impl Manifest {
    /// The stream that fills `flow.to`. Refused if the manifest has no mapping in that direction.
    pub fn stream(&self, flow: Flow) -> Result<Stream, MigrateError> {
        let maps = self.maps(flow);
        if maps.is_empty() {
            return Err(MigrateError::refused(
                format!("the manifest of {} has no [[inverse]], so there is no way back", self.context),
                "add one [[inverse]] per table that the monolith gets back",
            ));
        }
        let name = match flow.to {
            End::Target => self.context.clone(),
            End::Source => Stream::opposite(&self.context),
        };
        let forward = match flow.to {
            End::Target => &[],
            End::Source => self.mapping.as_slice(),
        };
        let mappings = |maps: &[TableMap]| maps.iter().map(TableMap::mapping).collect();
        let (filled, forward) = (mappings(maps), mappings(forward));
        let mappings = match flow.to {
            End::Target => filled,
            End::Source => readers_first(filled),
        };
        Ok(Stream { name, mappings, forward })
    }
}

/// The order of the way back: before each mapping those that join its root, else the last one first. A mapping is judged by rows
/// of the monolith that those behind it write, too: once these are right, nothing tells that its own are not.
fn readers_first(mut left: Vec<Mapping>) -> Vec<Mapping> {
    let mut ordered = Vec::new();
    while !left.is_empty() {
        let joined = |root: &str| {
            left.iter().any(|other| other.root != root && other.joins.iter().any(|join| join.table == root))
        };
        let next = left.iter().rposition(|mapping| !joined(&mapping.root)).unwrap_or(left.len() - 1);
        ordered.push(left.remove(next));
    }
    ordered
}

impl TableMap {
    fn mapping(&self) -> Mapping {
        Mapping {
            table: self.table.clone(),
            key: self.key.clone(),
            columns: self.columns.clone(),
            carries: self.carries.clone(),
            select: self.select.clone(),
            root: self.from.clone(),
            root_key: self.from_key.clone(),
            joins: self.joins.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const THERE: Flow = Flow { from: End::Source, to: End::Target };
    const BACK: Flow = Flow { from: End::Target, to: End::Source };
    const ITEM: &str = "[[mapping]]\ntable = 'item'\nkey = ['id']\ncolumns = ['id', 'name']\n";

    fn parse(text: &str) -> Result<Manifest, String> {
        let text = format!("context = 'items'\n{text}");
        Manifest::parse(Path::new("extraction.toml"), &text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_manifest_for_dual_write_gives_streams_both_ways() {
        let text = include_str!("../../../extracted/users/extraction.toml");
        let manifest = Manifest::parse(Path::new("extraction.toml"), text).unwrap();
        let (there, back) = (manifest.stream(THERE).unwrap(), manifest.stream(BACK).unwrap());
        assert_eq!(
            (there.name.clone(), back.name),
            (manifest.context.clone(), format!("{}.back", manifest.context))
        );
        let (map, mapping) = (&manifest.mapping[0], &there.mappings[0]);
        assert_eq!(
            (&mapping.root, &mapping.root_key),
            (&manifest.source.root, &vec![manifest.source.key.clone()])
        );
        assert_eq!(mapping.carries, map.key[..1]);
    }

    #[test]
    fn the_way_back_begins_with_what_reads_most() {
        let order = |joins: [&str; 2]| {
            let inverse = |(table, root, join): (&str, &str, &str)| {
                let join = match join {
                    "" => String::new(),
                    join => format!("[[inverse.join]]\ntable = '{join}'\ncolumns = ['id']\n"),
                };
                format!(
                    "[[inverse]]\ntable = '{table}'\nkey = ['id']\ncolumns = ['id']\nfrom = '{root}'\nfrom_key = ['id']\n\
                     select = 'SELECT id FROM {root} WHERE {{keys id}}'\n{join}"
                )
            };
            let inverses = [("owner", "person", joins[0]), ("call", "contact", joins[1])].map(inverse);
            let there = "from = 'x'\nfrom_key = ['id']\nselect = 'SELECT id, name FROM x WHERE {keys id}'\n";
            let stream = parse(&format!("{ITEM}{there}{}", inverses.concat())).unwrap().stream(BACK).unwrap();
            stream.mappings.into_iter().map(|mapping| mapping.table).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(order(["", ""]), "call owner");
        assert_eq!(order(["", "person"]), "call owner");
        assert_eq!(order(["contact", ""]), "owner call");
        assert_eq!(order(["contact", "person"]), "call owner");
    }

    #[test]
    fn a_mapping_that_says_all_needs_neither_end() {
        let text = format!(
            "{ITEM}from = 'old_item'\nfrom_key = ['a', 'b']\ncarries = []\n\
             select = 'SELECT a, b, id, name FROM old_item AS i WHERE {{keys i.a, coalesce(i.b, 0)}}'\n\
             [[mapping.join]]\ntable = 'owner'\ncolumns = ['id']\n\
             keys = 'SELECT a, b FROM old_item WHERE {{values owner_id}}'\n"
        );
        let manifest = parse(&text).unwrap();
        assert!(!manifest.has_versions());
        let stream = manifest.stream(THERE).unwrap();
        let mapping = &stream.mappings[0];
        assert!(mapping.needs_key_map());
        assert_eq!((mapping.root.as_str(), mapping.root_key.len()), ("old_item", 2));
        assert_eq!(mapping.joins[0].table, "owner");
        assert!(manifest.stream(BACK).unwrap_err().to_string().contains("[[inverse]]"));
    }

    #[test]
    fn a_context_has_a_name_that_can_stand_anywhere() {
        for name in ["", "x:y", "a.b", "../x", "x\\ny", "é"] {
            let text = format!("\ncontext = \"{name}\"\n");
            let error = Manifest::parse(Path::new("extraction.toml"), &text).unwrap_err().to_string();
            assert!(
                error.starts_with("extraction.toml:2: context `") && error.contains("letters, digits"),
                "{error}"
            );
        }
    }

    #[test]
    fn faults_are_told_with_their_line() {
        let select = "select = 'SELECT 1 WHERE {keys i.id}'\n";
        let cases = [
            (format!("{ITEM}{select}"), "extraction.toml:2: [[mapping]] item needs from = "),
            (format!("{ITEM}{select}from = 'old'\n"), "extraction.toml:2: [[mapping]] item needs from_key"),
            (
                format!("{ITEM}{select}from = 'old'\nfrom_key = ['a', 'b']\n"),
                "extraction.toml:6: [[mapping]] item: {keys …} names 1 expressions",
            ),
            (
                format!(
                    "{ITEM}select = 'SELECT 1 WHERE {{keys a, b}}'\nfrom = 'old'\nfrom_key = ['a', 'b']\n"
                ),
                "extraction.toml:2: [[mapping]] item: the source key has 2 columns",
            ),
            (
                format!("{ITEM}{select}from = 'old'\nfrom_key = ['a']\ncarries = ['colour']\n"),
                "extraction.toml:9: [[mapping]] item: colour is not among its columns",
            ),
            (
                format!(
                    "[source]\nroot = 'old'\nkey = 'a'\n{ITEM}{select}[[mapping.join]]\ntable = 'owner'\ncolumns = ['x', 'y']\n"
                ),
                "extraction.toml:12: [[mapping]] item: join owner: its 2 columns cannot be the source key",
            ),
            (format!("[source]\nversion = 'v'\n{ITEM}{select}"), "extraction.toml:2: [source] needs root"),
        ];
        for (text, expected) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
